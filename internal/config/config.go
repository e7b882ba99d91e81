// Package config reads the configuration of muster's processes: flags, and environment variables of the same names, flags
// winning. The names are a contract that manifests and scripts rely on; --help lists both.
package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/hashicorp/go-hclog"
	kongcompletion "github.com/jotaen/kong-completion"

	"github.com/muster-gateway/muster/pkg/lease"
)

// Secret is a string that is not printed by accident.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[hidden]"
}

// GoString hides the secret.
func (s Secret) GoString() string { return s.String() }

// Discord says which bot, and how to reach Discord.
type Discord struct {
	Token     Secret `name:"discord-token" env:"DISCORD_TOKEN" placeholder:"TOKEN" help:"The bot's token; this or the file is required. A flag can be seen in the process list: prefer the variable or the file."`
	TokenFile string `name:"discord-token-file" env:"DISCORD_TOKEN_FILE" placeholder:"FILE" help:"File that holds the bot's token."`
	APIURL    string `name:"discord-api-url" env:"DISCORD_API_URL" default:"https://discord.com/api/v10" placeholder:"URL" help:"Base of Discord's REST API (${default})."`
}

// ReadToken is the bare token, from wherever it is configured.
func (d Discord) ReadToken() (string, error) {
	token, err := secret(d.Token, d.TokenFile, "DISCORD_TOKEN_FILE")
	if err != nil {
		return "", err
	}
	token = strings.TrimPrefix(token, "Bot ")
	switch {
	case token == "":
		return "", errors.New("no bot token: set DISCORD_TOKEN or DISCORD_TOKEN_FILE")
	case strings.ContainsAny(token, " \t\r\n"):
		return "", errors.New("the bot token has white space in it: DISCORD_TOKEN or DISCORD_TOKEN_FILE must hold the token and nothing else")
	}
	return token, nil
}

// Etcd says how to reach etcd.
type Etcd struct {
	Endpoints    []string `name:"etcd-endpoints" env:"ETCD_ENDPOINTS" placeholder:"HOST:PORT,…" help:"etcd's client addresses (127.0.0.1:2379)."`
	CA           string   `name:"etcd-ca" env:"ETCD_CA" placeholder:"FILE" help:"CA certificate that etcd's certificate is checked with."`
	Cert         string   `name:"etcd-cert" env:"ETCD_CERT" placeholder:"FILE" help:"Client certificate for etcd."`
	Key          string   `name:"etcd-key" env:"ETCD_KEY" placeholder:"FILE" help:"Key of the client certificate."`
	Username     string   `name:"etcd-username" env:"ETCD_USERNAME" placeholder:"NAME" help:"User for etcd."`
	PasswordFile string   `name:"etcd-password-file" env:"ETCD_PASSWORD_FILE" placeholder:"FILE" help:"File that holds the user's password."`
}

// defaultEndpoint is where etcd is if nothing is said of it.
const defaultEndpoint = "127.0.0.1:2379"

// Given is the name of a variable that says how to reach etcd, or empty if all is left to the defaults.
func (e Etcd) Given() string {
	switch {
	case len(e.Endpoints) > 0:
		return "ETCD_ENDPOINTS"
	case e.CA != "":
		return "ETCD_CA"
	case e.Cert != "":
		return "ETCD_CERT"
	case e.Key != "":
		return "ETCD_KEY"
	case e.Username != "":
		return "ETCD_USERNAME"
	case e.PasswordFile != "":
		return "ETCD_PASSWORD_FILE"
	default:
		return ""
	}
}

// Open makes a store of the cluster's keys.
func (e Etcd) Open(cluster string, log hclog.Logger) (*lease.Store, error) {
	if len(e.Endpoints) == 0 {
		e.Endpoints = []string{defaultEndpoint}
	}
	password, err := secret("", e.PasswordFile, "ETCD_PASSWORD_FILE")
	if err != nil {
		return nil, err
	}
	if (e.Username == "") != (password == "") {
		return nil, errors.New("ETCD_USERNAME and ETCD_PASSWORD_FILE are for a user with a password: want both, and something in the file, or none")
	}
	return lease.Open(lease.Config{
		Endpoints: e.Endpoints, Cluster: cluster, CAFile: e.CA, CertFile: e.Cert, KeyFile: e.Key,
		Username: e.Username, Password: password, Logger: log,
	})
}

// EmbeddedEtcd says whether the process has an etcd of its own.
type EmbeddedEtcd struct {
	Dir     string `name:"embed-etcd" env:"MUSTER_EMBED_ETCD" placeholder:"DIR" help:"Run an etcd in this process, with its data in this directory, instead of using ETCD_ENDPOINTS. Of one member, so not highly available: for a single machine."`
	Address string `name:"embed-etcd-listen" env:"MUSTER_EMBED_ETCD_LISTEN" default:"127.0.0.1:2379" placeholder:"HOST:PORT" help:"Where that etcd listens, for whoever can connect (${default})."`
}

// Redis says how to reach Redis.
type Redis struct {
	URL Secret `name:"redis-url" env:"REDIS_URL" default:"redis://127.0.0.1:6379/0" placeholder:"URL" help:"Redis: redis://, rediss:// or unix://, several addresses for a cluster (${default})."`
}

// Cluster names the cluster: several may share one etcd and one Redis.
type Cluster struct {
	Name string `name:"cluster" env:"MUSTER_CLUSTER" default:"muster" placeholder:"NAME" help:"Name of the cluster: prefix of its keys in etcd and Redis (${default})."`
}

// Admin says who may change anything.
type Admin struct {
	AdminTokenFile string `name:"admin-token-file" env:"MUSTER_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"File that holds the bearer token for what changes anything; without one, that is accepted from the same machine only."`
}

// minAdminToken is how short an admin token may be, so that it cannot be guessed by trying.
const minAdminToken = 16

// ReadAdminToken is the token; "" if none is configured.
func (a Admin) ReadAdminToken() (string, error) {
	token, err := secret("", a.AdminTokenFile, "MUSTER_ADMIN_TOKEN_FILE")
	switch {
	case err != nil || a.AdminTokenFile == "":
		return "", err
	case strings.ContainsAny(token, " \t\r\n"):
		return "", errors.New("MUSTER_ADMIN_TOKEN_FILE: the token has white space in it")
	case len(token) < minAdminToken:
		return "", fmt.Errorf("MUSTER_ADMIN_TOKEN_FILE: the token has %d characters: want at least %d", len(token), minAdminToken)
	}
	return token, nil
}

// Log says what to log.
type Log struct {
	Level string `name:"log-level" env:"MUSTER_LOG_LEVEL" default:"info" enum:"trace,debug,info,warn,error" placeholder:"LEVEL" help:"trace, debug, info, warn or error (${default})."`
}

// Logger makes the process's logger.
func (l Log) Logger(name string, out io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.LevelFromString(l.Level), Output: out})
}

// Check has a process ask another about its health, instead of being one. Container images without a shell need that.
type Check struct {
	Probe string `name:"check" enum:",healthz,readyz" default:"" placeholder:"PROBE" help:"Ask the process that runs with this configuration for its healthz or readyz, and exit: 0 if all is well, else 1."`
}

// Coordinator is what cmd/coordinator is configured with.
type Coordinator struct {
	Discord      `group:"Discord"`
	Etcd         `group:"etcd"`
	EmbeddedEtcd `group:"etcd"`
	Cluster
	Admin
	Log
	Check
	ID        string `name:"id" env:"MUSTER_COORDINATOR_ID" placeholder:"ID" help:"Name of this replica (host name and process id)."`
	Shards    int    `name:"shards" env:"MUSTER_SHARDS" default:"0" placeholder:"N" help:"Total shards of a new cluster; 0: as many as Discord recommends (${default})."`
	ReshardAt int    `name:"reshard-at" env:"MUSTER_RESHARD_AT" default:"0" placeholder:"PERCENT" help:"Have as many shards as Discord recommends once that says that those there are have more than so many percent of the 2500 guilds that a shard can have, such as 80; 0: never (${default})."`
	Listen    string `name:"listen" env:"MUSTER_LISTEN" default:":8080" placeholder:"HOST:PORT" help:"Where to serve health, metrics, API and page (${default})."`
}

// Worker is what cmd/worker is configured with.
type Worker struct {
	Discord        `group:"Discord"`
	Intents        string `name:"discord-intents" env:"DISCORD_INTENTS" default:"unprivileged" placeholder:"INTENTS" help:"Gateway intents: names, comma separated; an integer; unprivileged; all (${default})." group:"Discord"`
	Presence       string `name:"discord-presence" env:"DISCORD_PRESENCE" placeholder:"JSON" help:"Presence of the bot, as in Discord's op 3; {{shard}} in its texts is the shard's index." group:"Discord"`
	LargeThreshold int    `name:"discord-large-threshold" env:"DISCORD_LARGE_THRESHOLD" placeholder:"N" help:"Members from which a guild is large, 50 to 250 (Discord's default)." group:"Discord"`
	Capabilities   int64  `name:"discord-capabilities" env:"DISCORD_CAPABILITIES" placeholder:"BITS" help:"Bits of IDENTIFY's capabilities, passed on as they are (none)." group:"Discord"`
	Etcd           `group:"etcd"`
	Redis          `group:"Redis"`
	Cluster
	Admin
	Log
	Check
	ID          string        `name:"worker-id" env:"MUSTER_WORKER_ID" placeholder:"ID" help:"Stable id of this worker; no two may have the same (host name)."`
	Zone        string        `name:"zone" env:"MUSTER_ZONE" placeholder:"NAME" help:"Failure domain this worker is in, such as a cloud provider's zone or a rack; load is spread over them (none)."`
	Capacity    int           `name:"capacity" env:"MUSTER_CAPACITY" default:"1" placeholder:"N" help:"How much this worker can do in proportion to the others, 1 to 1000: one of 2 gets twice the load of one of 1 (${default})."`
	MaxShards   int           `name:"max-shards" env:"MUSTER_MAX_SHARDS" default:"0" placeholder:"N" help:"Shards this worker is given at most, for whatever reason; 0: any number (${default})."`
	Listen      string        `name:"listen" env:"MUSTER_LISTEN" default:":8081" placeholder:"HOST:PORT" help:"Where to serve health and metrics (${default})."`
	Compression string        `name:"compression" env:"MUSTER_COMPRESSION" default:"zstd-stream" enum:"zstd-stream,zlib-stream,none" placeholder:"NAME" help:"zstd-stream, zlib-stream or none (${default})."`
	MaxLen      int64         `name:"stream-maxlen" env:"MUSTER_STREAM_MAXLEN" default:"100000" placeholder:"N" help:"Entries kept in each stream, about (${default})."`
	MaxAge      time.Duration `name:"stream-maxage" env:"MUSTER_STREAM_MAXAGE" default:"0" placeholder:"DURATION" help:"How old entries become, about, before they are dropped from the streams, at least 1m; 0: any age. After a takeover the age of what is there counts anew (${default})."`
	Events      string        `name:"events" env:"MUSTER_EVENTS" placeholder:"TYPES" help:"Events to have in the streams (MESSAGE_CREATE,INTERACTION_CREATE), or those to leave out (-TYPING_START,-PRESENCE_UPDATE); READY is always there (all)."`
	LeaseTTL    time.Duration `name:"lease-ttl" env:"MUSTER_LEASE_TTL" default:"10s" placeholder:"DURATION" help:"How long after its last sign of life a worker counts as dead, at least 3s (${default})."`
	StateDir    string        `name:"state-dir" env:"MUSTER_STATE_DIR" placeholder:"DIR" help:"Directory of this host where its workers keep locks that show which of them live (muster-<user id> in the temporary directory)."`
	EtcdAway    string        `name:"etcd-away" env:"MUSTER_ETCD_AWAY" default:"continue" enum:"continue,strict" placeholder:"MODE" help:"What becomes of open sockets when etcd was away for so long that others may have been given the shards: continue, or strict: close them until it is back (${default})."`
}

// Parse reads args and the environment into a struct of the kind above. When it returns false the process must exit with
// the given code: 0 after --help or --version, 2 after bad input, which it has named on stderr in one line.
func Parse(name, description string, into any, args []string) (exitCode int, ok bool) {
	_, exitCode, ok = ParseCommand(name, description, into, args)
	return exitCode, ok
}

// ParseCommand is Parse for a struct with subcommands, and returns the one that was chosen.
func ParseCommand(name, description string, into any, args []string) (command *kong.Context, exitCode int, ok bool) {
	var exited *int
	var common struct {
		Version kong.VersionFlag `help:"Print the version, and exit."`
	}
	parser, err := kong.New(into, kong.Name(name), kong.Description(description),
		kong.Embed(&common), kong.Vars{"version": name + " " + Version()},
		kong.Exit(func(code int) { exited = &code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		panic(fmt.Sprintf("config: %v", err)) // a mistake in the structs
	}
	kongcompletion.Register(parser) // answers a shell that asks what could follow, and exits
	if err := forgetEmpty(parser.Model); err != nil {
		return nil, Fail(name, err), false
	}
	command, err = parser.Parse(args)
	switch {
	case exited != nil: // --help and --version, which go on parsing after they have printed
		return nil, *exited, false
	case err != nil:
		return nil, Fail(name, err), false
	default:
		return command, 0, true
	}
}

// forgetEmpty makes a variable that is set to nothing, as compose files and manifests leave those that nobody filled in, one that is not set.
func forgetEmpty(model *kong.Application) error {
	return kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		flag, _ := node.(*kong.Flag)
		if flag == nil {
			return next(nil)
		}
		for _, variable := range flag.Envs {
			if value, set := os.LookupEnv(variable); set && value == "" {
				if err := os.Unsetenv(variable); err != nil {
					return fmt.Errorf("%s: %w", variable, err)
				}
			}
		}
		return next(nil)
	})
}

// Fail names bad input on stderr, in one line, and returns the exit code for it.
func Fail(name string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %s (see %s --help)\n", name, strings.ReplaceAll(err.Error(), "\n", " "), name)
	return 2
}

// secret is the value, or else what the file holds.
func secret(value Secret, file, variable string) (string, error) {
	if value != "" || file == "" {
		return strings.TrimSpace(string(value)), nil
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s: %w", variable, err)
	}
	return strings.TrimSpace(string(content)), nil
}
