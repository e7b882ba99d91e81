package deploy

import (
	"bytes"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"
)

// compose is docker-compose.yml as docker compose reads it: with the variables of the environment, those of a file, and all profiles or
// those that the file names. It fails if docker compose would warn of anything.
func compose(t *testing.T, environment []string, options ...cli.ProjectOptionsFn) *types.Project {
	t.Helper()
	var warnings bytes.Buffer
	logrus.SetOutput(&warnings)
	options = append([]cli.ProjectOptionsFn{cli.WithEnv(environment), cli.WithConsistency(true)}, options...)
	project, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, options...)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := project.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if warnings.Len() > 0 {
		t.Errorf("docker compose would warn:\n%s", warnings.String())
	}
	return loaded
}

func everything(t *testing.T) *types.Project {
	return compose(t, nil, cli.WithProfiles([]string{"*"}))
}

func TestComposeProfiles(t *testing.T) {
	ordinary := []string{"coordinator", "etcd", "redis", "worker"}
	if got := compose(t, nil).ServiceNames(); !slices.Equal(slices.Sorted(slices.Values(got)), ordinary) {
		t.Errorf("with your bot: %v", got)
	}
	sim := compose(t, nil, cli.WithEnvFiles(filepath.Join(root, "sim.env")), cli.WithDotEnv, cli.WithDefaultProfiles())
	want := slices.Sorted(slices.Values(append([]string{"consumer", "sim"}, ordinary...)))
	if got := slices.Sorted(slices.Values(sim.ServiceNames())); !slices.Equal(got, want) {
		t.Errorf("with sim.env: %v, want %v", got, want)
	}
	env := values(sim.Services["worker"])
	if env["DISCORD_API_URL"] != "http://sim:8765/api/v10" || env["DISCORD_TOKEN"] != "simulated-token" || env["DISCORD_INTENTS"] != "all" {
		t.Errorf("with sim.env the worker has %v", env)
	}
	if env := values(compose(t, []string{"DISCORD_TOKEN=mine"}).Services["worker"]); env["DISCORD_TOKEN"] != "mine" {
		t.Errorf("a token that is exported does not reach the worker: %v", env)
	}
}

// values are the variables that have a value.
func values(service types.ServiceConfig) map[string]string {
	all := map[string]string{}
	for name, value := range service.Environment {
		if value != nil {
			all[name] = *value
		}
	}
	return all
}

// TestComposePrograms holds each service that runs a program of ours to what that program is.
func TestComposePrograms(t *testing.T) {
	project := everything(t)
	targets, _ := images(t)
	for name, service := range project.Services {
		if service.Build == nil {
			continue
		}
		p, img := programOf(t, service.Build.Target), targets[service.Build.Target]
		for variable := range service.Environment {
			p.mustRead(t, variable)
		}
		if service.Entrypoint != nil {
			t.Errorf("%s has another entry point than its image", name)
		}
		p.mustAccept(t, service.Command)
		for _, port := range service.Ports {
			if want := p.port(service.Command, values(service)); port.HostIP != "127.0.0.1" || want == "" || want != itoa(port.Target) {
				t.Errorf("%s publishes %d at %q, and listens at %s", name, port.Target, port.HostIP, want)
			}
		}
		if service.HealthCheck != nil {
			mustBeHealthCheck(t, img, service.HealthCheck.Test, values(service))
		}
		if service.Build.Args["VERSION"] == nil {
			t.Errorf("%s is not told its version", name)
		}
	}
	for _, name := range []string{"coordinator", "worker"} {
		service := project.Services[name]
		programOf(t, name).alone(t, service.Command, values(service))
	}
	if coordinators := project.Services["coordinator"]; coordinators.GetScale() != 2 {
		t.Errorf("%d coordinators", coordinators.GetScale())
	}
	if grace := project.Services["worker"].StopGracePeriod; grace == nil || *grace <= types.Duration(stopTimeout(t)) {
		t.Errorf("a worker is killed after %v, and may need %v", grace, stopTimeout(t))
	}
}

// TestComposeAddresses: what a service is told of another is where that listens, and it starts only after the other is well.
func TestComposeAddresses(t *testing.T) {
	project := everything(t)
	ports := map[string]string{"etcd": "2379", "redis": "6379"}
	for _, name := range []string{"coordinator", "sim"} {
		service := project.Services[name]
		ports[name] = programOf(t, service.Build.Target).port(service.Command, values(service))
	}
	address := regexp.MustCompile(`\b(` + strings.Join(project.ServiceNames(), "|") + `):(\d+)\b`)
	told := 0
	for name, service := range project.Services {
		env := values(service)
		if name == "worker" || name == "coordinator" {
			env = withOthers(env, values(compose(t, nil, cli.WithEnvFiles(filepath.Join(root, "sim.env")), cli.WithDotEnv).Services[name]))
		}
		for variable, value := range env {
			for _, match := range address.FindAllStringSubmatch(value, -1) {
				told++
				if other := match[1]; ports[other] != match[2] {
					t.Errorf("%s of %s is %s, and %s listens at %s", variable, name, value, other, ports[other])
				} else if dependency, ok := service.DependsOn[other]; name != "muster" && (!ok || dependency.Condition != types.ServiceConditionHealthy) {
					t.Errorf("%s of %s is %s, and it does not wait for %s to be healthy", variable, name, value, other)
				}
			}
		}
		for other, dependency := range service.DependsOn {
			optional := len(project.Services[other].Profiles) > 0
			if project.Services[other].HealthCheck == nil || dependency.Required == optional {
				t.Errorf("%s depends on %s, which has no health check, or is not always there", name, other)
			}
		}
	}
	tool := project.Services["muster"]
	if url := "http://127.0.0.1:" + ports["coordinator"]; tool.NetworkMode != "service:coordinator" || values(tool)["MUSTER_COORDINATOR_URL"] != url {
		t.Error("the operator's tool does not find a coordinator on its own machine")
	}
	if told < 7 {
		t.Errorf("only %d addresses found", told)
	}
	if data := volumesOf(project.Services["etcd"]); data == "" || !strings.Contains(strings.Join(project.Services["etcd"].Command, " "), "--data-dir="+data+"/") {
		t.Error("etcd's data is not on its volume")
	}
}

func volumesOf(service types.ServiceConfig) string {
	if len(service.Volumes) != 1 || service.Volumes[0].Type != types.VolumeTypeVolume {
		return ""
	}
	return service.Volumes[0].Target
}

// TestComposeIsSafe: no secret is in the file, and no container may more than it must.
func TestComposeIsSafe(t *testing.T) {
	project := everything(t)
	targets, _ := images(t)
	secret := regexp.MustCompile(`TOKEN|PASSWORD|SECRET|KEY`)
	for name, service := range project.Services {
		for variable, value := range service.Environment {
			if secret.MatchString(variable) && value != nil {
				t.Errorf("%s has a value for %s in the file", name, variable)
			}
		}
		if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) || len(service.CapAdd) > 0 || service.Privileged ||
			!slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may write to its file system, or has rights that it does not need", name)
		}
		user := service.User
		if service.Build != nil {
			user = targets[service.Build.Target].user
		}
		if (user == "" || strings.HasPrefix(user, "0")) && name != "etcd" { // whose image makes its volume root's
			t.Errorf("%s runs as root", name)
		}
	}
	for name, volume := range project.Volumes {
		if !slices.ContainsFunc(slices.Collect(maps.Values(project.Services)), func(s types.ServiceConfig) bool {
			return len(s.Volumes) == 1 && s.Volumes[0].Source == name
		}) {
			t.Errorf("volume %s is nobody's: %v", name, volume)
		}
	}
}
