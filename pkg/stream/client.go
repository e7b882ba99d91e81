package stream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Errors of Open. They are fixed texts, because whatever part of a bad URL they
// quoted might be part of its password.
var (
	ErrURLScheme = errors.New("redis url: want redis://, rediss:// or unix:// at its beginning")
	ErrURLForm   = errors.New("redis url: not understood; want redis://[[user]:password@]host:port[,host:port…][/db][?option=value…], with special characters of the password percent-encoded")
)

// Client is a connection to Redis, as Open makes it. The name lets programs pass
// one on without knowing go-redis.
type Client = redis.UniversalClient

const dialTimeout = 2 * time.Second

// Open returns a client for a Redis given as a URL. It does not connect: the
// first command does, and a server that is away is that command's error.
//
//	redis://user:password@host:6379/0               one server; rediss:// for TLS
//	unix:///run/redis.sock?db=0                     one server by its socket
//	redis://host1:6379,host2:6379                   a cluster, known by some of its nodes
//	redis://host:6379?cluster=true                  a cluster, known by one
//	redis://host1:26379,host2:26379?master_name=m   a server found through Sentinel
//
// With rediss:// the options ca, cert and key name PEM files: of the authority
// that the server's certificate is checked with, instead of the system's, and of a
// certificate to show to the server with its key.
//
// Further options are go-redis' own (ParseURL, ParseClusterURL,
// ParseFailoverURL), addr=host:port among them for further addresses. With
// Sentinel the credentials before the @ are Sentinel's, and the options username
// and password the server's, as there.
//
// Unless the URL says otherwise the client does not repeat commands by itself;
// this package's Writer and Reader do, without end and with their own backoff.
func Open(rawURL string) (Client, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(rawURL), "://")
	if !ok || scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return nil, ErrURLScheme
	}
	if scheme == "unix" {
		return openServer(scheme+"://"+rest, nil)
	}

	// net/url knows one host only: the others become addr options.
	authority, path, query := splitURL(rest)
	credentials, hosts := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		credentials, hosts = authority[:at+1], authority[at+1:]
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return nil, ErrURLForm
	}
	host, more, many := strings.Cut(hosts, ",")
	if many {
		for addr := range strings.SplitSeq(more, ",") {
			options.Add("addr", addr)
		}
	}
	cluster := options.Get("cluster") == "true" || options.Has("addr")
	options.Del("cluster")
	files, err := takeTLSFiles(options)
	if err != nil {
		return nil, err
	}
	if files != nil && scheme != "rediss" {
		return nil, ErrURLTLS
	}
	full := scheme + "://" + credentials + host + path
	if len(options) > 0 {
		full += "?" + options.Encode()
	}

	switch {
	case options.Has("master_name"):
		return openSentinel(full, files)
	case cluster:
		if path != "" && path != "/" && path != "/0" { // a cluster has only database 0
			return nil, ErrURLForm
		}
		return openCluster(full, files)
	}
	return openServer(full, files)
}

// Ping asks Redis for a sign of life.
func Ping(ctx context.Context, client Client) error {
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	return nil
}

// splitURL splits what follows the scheme.
func splitURL(rest string) (authority, path, query string) {
	rest, query, _ = strings.Cut(rest, "?")
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		return rest[:slash], rest[slash:], query
	}
	return rest, "", query
}

func openServer(url string, files *tlsFiles) (Client, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, ErrURLForm
	}
	files.use(o.TLSConfig)
	tune(&o.MaxRetries, &o.DialTimeout, &o.DialerRetries)
	o.MaintNotificationsConfig = noMaintenance()
	return redis.NewClient(o), nil
}

func openCluster(url string, files *tlsFiles) (Client, error) {
	o, err := redis.ParseClusterURL(url)
	if err != nil {
		return nil, ErrURLForm
	}
	files.use(o.TLSConfig)
	tune(&o.MaxRetries, &o.DialTimeout, &o.DialerRetries)
	o.MaintNotificationsConfig = noMaintenance()
	return redis.NewClusterClient(o), nil
}

func openSentinel(url string, files *tlsFiles) (Client, error) {
	o, err := redis.ParseFailoverURL(url)
	if err != nil {
		return nil, ErrURLForm
	}
	files.use(o.TLSConfig)
	tune(&o.MaxRetries, &o.DialTimeout, &o.DialerRetries)
	return redis.NewFailoverClient(o), nil
}

// tune sets what the URL left open: one attempt, given up early enough for the
// caller to notice.
func tune(maxRetries *int, dial *time.Duration, dialerRetries *int) {
	if *maxRetries == 0 {
		*maxRetries = -1
	}
	if *dial == 0 {
		*dial = dialTimeout
	}
	if *dialerRetries == 0 {
		*dialerRetries = 1
	}
}

// noMaintenance turns off the announcements of Redis Enterprise, for which the
// client would send a command other servers do not know on every connection.
func noMaintenance() *maintnotifications.Config {
	return &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}
