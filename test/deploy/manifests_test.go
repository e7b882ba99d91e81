package deploy

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	autoscaling "k8s.io/api/autoscaling/v2"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// overlays are what people apply. "everything" is production with the lines taken in that are commented out there.
var overlays = []string{"dev", "production", "everything"}

// manifests are the objects of an overlay.
type manifests struct {
	overlay  string
	objects  []runtime.Object
	policies []*networking.NetworkPolicy
	configs  map[string]*core.ConfigMap
	pods     []pod
}

// pod is a workload's template.
type pod struct {
	owner    string // name of the Deployment or StatefulSet
	replicas *int32
	selector *meta.LabelSelector
	labels   labels.Set
	spec     core.PodSpec
}

// main is its only container.
func (p pod) main() core.Container { return p.spec.Containers[0] }

// decoder refuses what the API does not know.
func decoder(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, apps.AddToScheme, policy.AddToScheme, networking.AddToScheme, autoscaling.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// load builds an overlay as "kubectl apply -k" does.
func load(t *testing.T, overlay string) *manifests {
	t.Helper()
	files := inMemory(t)
	dir := overlay
	if overlay == "everything" {
		dir = "production"
		path := "/k8s/overlays/production/kustomization.yaml"
		text, err := files.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all := strings.ReplaceAll(string(text), "# - ../../components/", "- ../../components/")
		if all == string(text) {
			t.Fatalf("%s has no components that are commented out", path)
		}
		if err := files.WriteFile(path, []byte(all)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/k8s/overlays/"+dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &manifests{overlay: overlay, configs: map[string]*core.ConfigMap{}}
	decode := decoder(t)
	for _, resource := range built.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decode.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s: %s: %v", overlay, resource.CurId(), err)
			continue
		}
		m.add(object)
	}
	if len(m.pods) < 2 {
		t.Fatalf("%s has only %d workloads", overlay, len(m.pods))
	}
	return m
}

// inMemory is a copy of k8s/ that a test can change.
func inMemory(t *testing.T) filesys.FileSystem {
	t.Helper()
	files := filesys.MakeFsInMemory()
	err := filepath.WalkDir(filepath.Join(root, "k8s"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return files.WriteFile("/"+strings.TrimPrefix(filepath.ToSlash(path), root+"/"), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func (m *manifests) add(object runtime.Object) {
	m.objects = append(m.objects, object)
	switch o := object.(type) {
	case *apps.Deployment:
		m.pods = append(m.pods, pod{o.Name, o.Spec.Replicas, o.Spec.Selector, o.Spec.Template.Labels, o.Spec.Template.Spec})
	case *apps.StatefulSet:
		m.pods = append(m.pods, pod{o.Name, o.Spec.Replicas, o.Spec.Selector, o.Spec.Template.Labels, o.Spec.Template.Spec})
	case *networking.NetworkPolicy:
		m.policies = append(m.policies, o)
	case *core.ConfigMap:
		m.configs[o.Name] = o
	}
}

// objectsOf are the objects of one kind.
func objectsOf[T runtime.Object](m *manifests) (all []T) {
	for _, object := range m.objects {
		if o, ok := object.(T); ok {
			all = append(all, o)
		}
	}
	return all
}

// workload is the pod of a name.
func (m *manifests) workload(t *testing.T, owner string) pod {
	t.Helper()
	i := slices.IndexFunc(m.pods, func(p pod) bool { return p.owner == owner })
	if i < 0 {
		t.Fatalf("%s has no workload %s", m.overlay, owner)
	}
	return m.pods[i]
}

// selected are the owners of the pods that a selector selects, sorted.
func (m *manifests) selected(t *testing.T, selector *meta.LabelSelector) (owners []string) {
	t.Helper()
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.pods {
		if s.Matches(p.labels) {
			owners = append(owners, p.owner)
		}
	}
	slices.Sort(owners)
	return owners
}

// image is the name that an image has in the Dockerfile, or empty if it is somebody else's.
func (p pod) image() string {
	name := p.main().Image
	name = name[strings.LastIndex(name, "/")+1:]
	name, _, _ = strings.Cut(name, ":")
	switch name {
	case "muster":
		return name
	case "muster-coordinator", "muster-worker":
		return strings.TrimPrefix(name, "muster-")
	default:
		return ""
	}
}

// env is the pod's environment, with what is known only in a running pod made up.
func (m *manifests) env(t *testing.T, p pod) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, from := range p.main().EnvFrom {
		if from.ConfigMapRef == nil || m.configs[from.ConfigMapRef.Name] == nil {
			t.Errorf("%s: %s takes its environment from something that is not there", m.overlay, p.owner)
			continue
		}
		for name, value := range m.configs[from.ConfigMapRef.Name].Data {
			all[name] = value
		}
	}
	for _, v := range p.main().Env {
		if _, twice := all[v.Name]; twice {
			t.Errorf("%s: %s is given %s twice", m.overlay, p.owner, v.Name)
		}
		all[v.Name] = v.Value
		if v.ValueFrom == nil {
			continue
		}
		switch {
		case v.ValueFrom.FieldRef != nil && v.ValueFrom.FieldRef.FieldPath == "metadata.name":
			all[v.Name] = p.owner + "-0"
		case v.ValueFrom.FieldRef != nil && v.ValueFrom.FieldRef.FieldPath == "metadata.labels['"+core.LabelTopologyZone+"']":
			all[v.Name] = ""
		case v.ValueFrom.ResourceFieldRef != nil:
			all[v.Name] = downward(t, p, v.ValueFrom.ResourceFieldRef)
		case v.ValueFrom.SecretKeyRef != nil:
			all[v.Name] = "redis://:password@redis.example.com:6379/0"
		default:
			t.Errorf("%s: where %s of %s comes from is not known to the test", m.overlay, v.Name, p.owner)
		}
	}
	return all
}

// downward is a resource's amount as the kubelet passes it on, rounded up.
func downward(t *testing.T, p pod, from *core.ResourceFieldSelector) string {
	t.Helper()
	if from.ContainerName != p.main().Name || from.Resource != "requests.cpu" || from.Divisor.String() != "1" {
		t.Errorf("%s: %+v is not the container's cores", p.owner, from)
	}
	cpu := p.main().Resources.Requests[core.ResourceCPU]
	return fmt.Sprint(cpu.Value())
}

func TestManifestsAreWhatTheAPIKnows(t *testing.T) {
	for _, overlay := range overlays {
		load(t, overlay)
	}
	const typo = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {selectors: {}}\n"
	if _, _, err := decoder(t).Decode([]byte(typo), nil, nil); err == nil || !strings.Contains(err.Error(), "selectors") {
		t.Errorf("a field that the API does not know is accepted: %v", err)
	}
}
