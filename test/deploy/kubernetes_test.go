package deploy

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// each calls the test for every overlay.
func each(t *testing.T, test func(*testing.T, *manifests)) {
	for _, overlay := range overlays {
		t.Run(overlay, func(t *testing.T) { test(t, load(t, overlay)) })
	}
}

// ours are what the programs of this project run in.
func (m *manifests) ours() (pods []pod) {
	for _, p := range m.pods {
		if p.image() != "" {
			pods = append(pods, p)
		}
	}
	return pods
}

// TestPodsAreTheirPrograms: flags, variables and ports are those that the programs have.
func TestPodsAreTheirPrograms(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		known := map[string]int{} // in how many of the programs that are given it a variable of a ConfigMap is known
		for _, p := range m.ours() {
			main, is := p.main(), programOf(t, p.image())
			if main.Command != nil {
				t.Errorf("%s runs %q instead of its image's program", p.owner, main.Command)
			}
			is.mustAccept(t, main.Args)
			for _, v := range main.Env {
				if v.Name != "GOMEMLIMIT" { // which Go itself reads
					is.mustRead(t, v.Name)
				}
			}
			for _, from := range main.EnvFrom {
				for name := range m.configs[from.ConfigMapRef.Name].Data {
					known[name] += 0
					if strings.Contains(is.help(t), "$"+name) {
						known[name]++
					}
				}
			}
			port := main.Ports[0]
			if listens := is.port(main.Args, m.env(t, p)); len(main.Ports) != 1 || listens != itoa(uint32(port.ContainerPort)) {
				t.Errorf("%s has the port %d, and listens at %s", p.owner, port.ContainerPort, listens)
			}
		}
		for name, programs := range known {
			if programs == 0 {
				t.Errorf("nobody reads %s", name)
			}
		}
	})
}

// TestPodsRunAlone starts coordinator and worker as they are configured, with nothing else there: a pod must not be killed for that,
// must not be ready, and must end in time.
func TestPodsRunAlone(t *testing.T) {
	for _, overlay := range []string{"dev", "production"} {
		m := load(t, overlay)
		for _, owner := range []string{"muster-coordinator", "muster-worker"} {
			p := m.workload(t, owner)
			programOf(t, p.image()).alone(t, p.main().Args, m.env(t, p))
		}
	}
}

// TestProbes: a pod is killed only if its own program does not answer, and gets traffic only if it does its job.
func TestProbes(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		for _, p := range m.pods {
			main := p.main()
			for name, probe := range map[string]*core.Probe{"startup": main.StartupProbe, "liveness": main.LivenessProbe, "readiness": main.ReadinessProbe} {
				switch {
				case probe == nil:
					if name != "startup" || p.owner != "redis" { // which listens at once
						t.Errorf("%s has no %s probe", p.owner, name)
					}
				case probe.HTTPGet != nil && !hasPort(p, probe.HTTPGet.Port), probe.TCPSocket != nil && !hasPort(p, probe.TCPSocket.Port):
					t.Errorf("%s: the %s probe asks at a port that it does not have", p.owner, name)
				}
			}
			if slices.Contains([]string{"coordinator", "worker"}, p.image()) {
				paths := []string{main.StartupProbe.HTTPGet.Path, main.LivenessProbe.HTTPGet.Path, main.ReadinessProbe.HTTPGet.Path}
				if !slices.Equal(paths, []string{"/healthz", "/healthz", "/readyz"}) {
					t.Errorf("%s is probed at %v", p.owner, paths)
				}
			}
		}
		grace := time.Duration(*m.workload(t, "muster-worker").spec.TerminationGracePeriodSeconds) * time.Second
		if grace <= stopTimeout(t) {
			t.Errorf("a worker is killed after %v, and may need %v", grace, stopTimeout(t))
		}
	})
}

func hasPort(p pod, port intstr.IntOrString) bool {
	return slices.ContainsFunc(p.main().Ports, func(has core.ContainerPort) bool {
		return port.Type == intstr.String && has.Name == port.StrVal || port.Type == intstr.Int && has.ContainerPort == port.IntVal
	})
}

// TestPodsAreRestricted holds all pods to the Pod Security Standard "restricted" and more: no rights in the cluster, a read-only file
// system, and bounded memory.
func TestPodsAreRestricted(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		accounts := map[string]bool{}
		for _, account := range objectsOf[*core.ServiceAccount](m) {
			accounts[account.Name] = account.AutomountServiceAccountToken != nil && !*account.AutomountServiceAccountToken
		}
		for _, p := range m.pods {
			if !accounts[p.spec.ServiceAccountName] || p.spec.AutomountServiceAccountToken == nil || *p.spec.AutomountServiceAccountToken {
				t.Errorf("%s has a token of the account %q", p.owner, p.spec.ServiceAccountName)
			}
			if p.spec.EnableServiceLinks == nil || *p.spec.EnableServiceLinks { // etcd reads ETCD_…, also ETCD_PORT
				t.Errorf("%s is given variables named after services", p.owner)
			}
			if len(p.spec.Containers) != 1 || len(p.spec.InitContainers) > 0 || p.spec.HostNetwork || p.spec.HostPID || p.spec.HostIPC {
				t.Errorf("%s is not one container by itself", p.owner)
			}
			mustBeRestricted(t, p)
			mustBeBounded(t, p)
		}
		for _, object := range m.objects {
			if kind := object.GetObjectKind().GroupVersionKind(); kind.Kind == "Secret" || strings.HasPrefix(kind.Group, "rbac.") {
				t.Errorf("%s: a %s is in the manifests", m.overlay, kind.Kind)
			}
		}
		for _, namespace := range objectsOf[*core.Namespace](m) {
			if namespace.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
				t.Errorf("namespace %s does not enforce it", namespace.Name)
			}
		}
	})
}

func mustBeRestricted(t *testing.T, p pod) {
	t.Helper()
	all, own := p.spec.SecurityContext, p.main().SecurityContext
	if all == nil || own == nil {
		t.Errorf("%s has no security context", p.owner)
		return
	}
	if all.RunAsNonRoot == nil || !*all.RunAsNonRoot || all.RunAsUser == nil || *all.RunAsUser == 0 || own.RunAsUser != nil {
		t.Errorf("%s may run as root", p.owner)
	}
	if all.SeccompProfile == nil || all.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Errorf("%s may make every system call", p.owner)
	}
	if own.AllowPrivilegeEscalation == nil || *own.AllowPrivilegeEscalation || own.Capabilities == nil ||
		!slices.Equal(own.Capabilities.Drop, []core.Capability{"ALL"}) || len(own.Capabilities.Add) > 0 || own.Privileged != nil {
		t.Errorf("%s has rights that it does not need", p.owner)
	}
	if own.ReadOnlyRootFilesystem == nil || !*own.ReadOnlyRootFilesystem {
		t.Errorf("%s may write to its file system", p.owner)
	}
	if p.image() != "" {
		targets, _ := images(t)
		if user, _, _ := strings.Cut(targets[p.image()].user, ":"); user != itoa(uint32(*all.RunAsUser)) {
			t.Errorf("%s runs as %d, and its image as %s", p.owner, *all.RunAsUser, user)
		}
	}
}

func mustBeBounded(t *testing.T, p pod) {
	t.Helper()
	requests, limits := p.main().Resources.Requests, p.main().Resources.Limits
	if requests.Cpu().IsZero() || requests.Memory().IsZero() || limits.Memory().Cmp(*requests.Memory()) < 0 {
		t.Errorf("%s requests %v and is limited to %v", p.owner, requests, limits)
	}
	if !limits.Cpu().IsZero() {
		t.Errorf("%s may be throttled", p.owner)
	}
	for _, v := range p.main().Env {
		if v.Name != "GOMEMLIMIT" {
			continue
		}
		limit, err := resource.ParseQuantity(strings.TrimSuffix(v.Value, "B"))
		if err != nil || limit.Cmp(*limits.Memory()) >= 0 {
			t.Errorf("%s: Go's limit is %s, and the container's %s", p.owner, v.Value, limits.Memory())
		}
	}
}

// TestSelectors: whatever selects pods selects those that it is meant for, and no others.
func TestSelectors(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		for _, p := range m.pods {
			if got := m.selected(t, p.selector); !slices.Equal(got, []string{p.owner}) {
				t.Errorf("%s selects the pods of %v", p.owner, got)
			}
			for _, spread := range p.spec.TopologySpreadConstraints {
				if got := m.selected(t, spread.LabelSelector); !slices.Equal(got, []string{p.owner}) {
					t.Errorf("%s is spread among %v", p.owner, got)
				}
			}
			if p.replicas != nil && *p.replicas > 1 && len(p.spec.TopologySpreadConstraints) != 2 {
				t.Errorf("%s is not spread over zones and nodes", p.owner)
			}
		}
		for _, service := range objectsOf[*core.Service](m) {
			got := m.selected(t, &meta.LabelSelector{MatchLabels: service.Spec.Selector})
			if !slices.Equal(got, []string{service.Name}) {
				t.Errorf("service %s has the pods of %v", service.Name, got)
				continue
			}
			for _, port := range service.Spec.Ports {
				if !hasPort(m.workload(t, got[0]), port.TargetPort) {
					t.Errorf("service %s: %s has no port %s", service.Name, got[0], port.TargetPort.String())
				}
			}
		}
		for _, set := range objectsOf[*apps.StatefulSet](m) {
			if !slices.ContainsFunc(objectsOf[*core.Service](m), func(s *core.Service) bool { return s.Name == set.Spec.ServiceName }) {
				t.Errorf("%s has no service %s", set.Name, set.Spec.ServiceName)
			}
		}
		mustHaveBudgets(t, m)
	})
}

// mustHaveBudgets: nodes can be emptied, and what has several pods never loses all of them to that.
func mustHaveBudgets(t *testing.T, m *manifests) {
	t.Helper()
	budgets := map[string]bool{}
	for _, budget := range objectsOf[*policy.PodDisruptionBudget](m) {
		got := m.selected(t, budget.Spec.Selector)
		if !slices.Equal(got, []string{budget.Name}) {
			t.Errorf("the budget %s is for %v", budget.Name, got)
			continue
		}
		budgets[budget.Name] = true
		replicas := 3 // the autoscaler's least
		if set := m.workload(t, budget.Name).replicas; set != nil {
			replicas = int(*set)
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(budget.Spec.MaxUnavailable, replicas, true)
		if err != nil || n < 1 || n >= replicas {
			t.Errorf("%s may lose %d of %d, %v", budget.Name, n, replicas, err)
		}
	}
	for _, p := range m.pods {
		if (p.replicas == nil || *p.replicas > 1) != budgets[p.owner] {
			t.Errorf("%s: has a budget: %v", p.owner, budgets[p.owner])
		}
	}
}

// TestSecrets: what a pod takes from a Secret exists only if somebody makes it, so README.md says how, key by key.
func TestSecrets(t *testing.T) {
	readme := read(t, "k8s/README.md") + read(t, "k8s/components/etcd/make-certs")
	each(t, func(t *testing.T, m *manifests) {
		mustTell := func(name string, keys ...string) {
			line := readme[max(0, strings.Index(readme, "create secret generic "+name)):]
			line, _, _ = strings.Cut(line, "\n")
			if !strings.Contains(line, "create secret generic "+name) {
				t.Errorf("README.md does not say how to make the secret %s", name)
			}
			for _, key := range keys {
				if made, err := regexp.MatchString(`--from-(file|literal)=([^= ]*/)?`+regexp.QuoteMeta(key)+`(=|\s|$)`, line); err != nil || !made {
					t.Errorf("README.md makes the secret %s without %s: %s", name, key, line)
				}
			}
		}
		for _, p := range m.pods {
			env := m.env(t, p)
			mounts := map[string]string{} // by volume
			for _, mount := range p.main().VolumeMounts {
				mounts[mount.Name] = mount.MountPath
			}
			for _, volume := range p.spec.Volumes {
				at := mounts[volume.Name]
				if volume.EmptyDir != nil && at == "/data" { // the one directory that the images have to write to
					continue
				}
				if volume.Secret == nil || at == "" || *volume.Secret.DefaultMode != 0o440 || p.spec.SecurityContext.FSGroup == nil {
					t.Errorf("%s: the volume %s is no secret that the program can read", p.owner, volume.Name)
					continue
				}
				mustTell(volume.Secret.SecretName, keysBelow(at, append(slices.Collect(maps.Values(env)), p.main().Args...))...)
			}
			for _, v := range p.main().Env {
				if v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil {
					mustTell(v.ValueFrom.SecretKeyRef.Name, v.ValueFrom.SecretKeyRef.Key)
				}
			}
			for _, text := range append(slices.Collect(maps.Values(env)), p.main().Args...) {
				_, file, secret := strings.Cut(text, "/run/secrets/")
				mounted := slices.ContainsFunc(slices.Collect(maps.Values(mounts)), func(at string) bool {
					return len(keysBelow(at, []string{"/run/secrets/" + file})) == 1
				})
				if secret && !mounted {
					t.Errorf("%s: nothing is mounted where %s is", p.owner, text)
				}
			}
		}
	})
}

// keysBelow are the files in a directory that the texts name.
func keysBelow(dir string, texts []string) (keys []string) {
	for _, text := range texts {
		if _, key, ok := strings.Cut(text, dir+"/"); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// TestPodMonitor: Prometheus finds the metrics of both programs.
func TestPodMonitor(t *testing.T) {
	m := load(t, "everything")
	monitors := objectsOf[*monitoring.PodMonitor](m)
	if len(monitors) != 1 {
		t.Fatalf("%d pod monitors", len(monitors))
	}
	got := m.selected(t, &monitors[0].Spec.Selector)
	if !slices.Equal(got, []string{"muster-coordinator", "muster-worker"}) {
		t.Errorf("%v are monitored", got)
	}
	for _, endpoint := range monitors[0].Spec.PodMetricsEndpoints {
		for _, owner := range got {
			if endpoint.Port == nil || !hasPort(m.workload(t, owner), intstr.FromString(*endpoint.Port)) || endpoint.Path != "/metrics" {
				t.Errorf("%s serves nothing at %+v", owner, endpoint)
			}
		}
	}
}
