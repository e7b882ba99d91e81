package deploy

import (
	"slices"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// peer is one end of a connection: a pod of the overlay, or one that is elsewhere.
type peer struct {
	name      string
	labels    labels.Set // of the pod; nil: an address outside of the cluster
	namespace labels.Set // of another namespace; nil: the overlay's own
}

// TestNetwork tries every connection that there is to be, and some that there must not be, against the policies.
func TestNetwork(t *testing.T) {
	each(t, func(t *testing.T, m *manifests) {
		outside := peer{name: "an address outside"}
		consumer := peer{name: "a consumer", labels: labels.Set{"muster/consumer": "true"}}
		stranger := peer{name: "another pod", labels: labels.Set{"app": "other"}}
		prometheus := peer{name: "prometheus", labels: labels.Set{}, namespace: labels.Set{core.LabelMetadataName: "monitoring"}}
		elsewhere := peer{name: "a pod of another namespace", labels: labels.Set{}, namespace: labels.Set{core.LabelMetadataName: "other"}}
		coordinator, worker := m.peer(t, "muster-coordinator"), m.peer(t, "muster-worker")

		type connection struct {
			from, to peer
			port     string
			allowed  bool
		}
		tries := []connection{
			{coordinator, outside, "443", true}, {worker, outside, "443", true}, {coordinator, outside, "53", true}, {worker, outside, "53", true},
			{coordinator, outside, "80", false}, {worker, outside, "22", false},
			{stranger, coordinator, "8080", true}, {elsewhere, coordinator, "8080", false},
			{stranger, worker, "8081", false}, {coordinator, worker, "8081", false}, {worker, coordinator, "8080", false},
			{prometheus, coordinator, "8080", m.overlay == "everything"}, {prometheus, worker, "8081", m.overlay == "everything"},
		}
		if m.overlay == "dev" {
			etcd, redis, discord := m.peer(t, "etcd"), m.peer(t, "redis"), m.peer(t, "discord-simulator")
			tries = append(tries, []connection{
				{coordinator, etcd, "2379", true}, {worker, etcd, "2379", true}, {etcd, etcd, "2380", true}, {etcd, etcd, "2379", true}, {etcd, outside, "53", true},
				{coordinator, etcd, "2380", false}, {stranger, etcd, "2379", false}, {consumer, etcd, "2379", false}, {etcd, outside, "443", false},
				{worker, redis, "6379", true}, {consumer, redis, "6379", true},
				{coordinator, redis, "6379", false}, {stranger, redis, "6379", false}, {redis, outside, "443", false},
				{coordinator, discord, "8765", true}, {worker, discord, "8765", true}, {stranger, discord, "8765", false}, {worker, outside, "6379", false},
			}...)
		} else {
			tries = append(tries, []connection{
				{coordinator, outside, "2379", true}, {worker, outside, "2379", true}, {worker, outside, "6379", true}, {coordinator, outside, "6379", false},
			}...)
		}
		for _, c := range tries {
			if got := m.allows(t, c.from, c.to, c.port); got != c.allowed {
				t.Errorf("%s to %s at %s: allowed: %v", c.from.name, c.to.name, c.port, got)
			}
		}
		for _, p := range m.policies {
			if len(m.selected(t, &p.Spec.PodSelector)) == 0 {
				t.Errorf("the policy %s is for nobody", p.Name)
			}
		}
		for _, p := range m.pods {
			if !m.isolated(t, m.peer(t, p.owner), networking.PolicyTypeIngress) || !m.isolated(t, m.peer(t, p.owner), networking.PolicyTypeEgress) {
				t.Errorf("%s may connect to anybody, or the other way round", p.owner)
			}
		}
	})
}

func (m *manifests) peer(t *testing.T, owner string) peer {
	t.Helper()
	return peer{name: owner, labels: m.workload(t, owner).labels}
}

// allows says whether a connection is made: what leaves a pod that is isolated must be allowed there, and what enters one, there too.
func (m *manifests) allows(t *testing.T, from, to peer, port string) bool {
	t.Helper()
	out, in := true, true
	if m.isolated(t, from, networking.PolicyTypeEgress) {
		out = slices.ContainsFunc(m.policies, func(p *networking.NetworkPolicy) bool {
			return m.applies(t, p, from, networking.PolicyTypeEgress) && slices.ContainsFunc(p.Spec.Egress, func(rule networking.NetworkPolicyEgressRule) bool {
				return m.matches(t, rule.To, to) && m.matchesPort(t, rule.Ports, to, port)
			})
		})
	}
	if m.isolated(t, to, networking.PolicyTypeIngress) {
		in = slices.ContainsFunc(m.policies, func(p *networking.NetworkPolicy) bool {
			return m.applies(t, p, to, networking.PolicyTypeIngress) && slices.ContainsFunc(p.Spec.Ingress, func(rule networking.NetworkPolicyIngressRule) bool {
				return m.matches(t, rule.From, from) && m.matchesPort(t, rule.Ports, to, port)
			})
		})
	}
	return out && in
}

func (m *manifests) isolated(t *testing.T, end peer, direction networking.PolicyType) bool {
	t.Helper()
	return slices.ContainsFunc(m.policies, func(p *networking.NetworkPolicy) bool { return m.applies(t, p, end, direction) })
}

func (m *manifests) applies(t *testing.T, p *networking.NetworkPolicy, end peer, direction networking.PolicyType) bool {
	t.Helper()
	return end.namespace == nil && end.labels != nil && slices.Contains(p.Spec.PolicyTypes, direction) && matchesLabels(t, &p.Spec.PodSelector, end.labels)
}

func matchesLabels(t *testing.T, selector *meta.LabelSelector, set labels.Set) bool {
	t.Helper()
	s, err := meta.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return s.Matches(set)
}

func (m *manifests) matches(t *testing.T, allowed []networking.NetworkPolicyPeer, end peer) bool {
	t.Helper()
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(a networking.NetworkPolicyPeer) bool {
		switch {
		case a.IPBlock != nil:
			return end.labels == nil
		case end.labels == nil, a.NamespaceSelector == nil && end.namespace != nil:
			return false
		case a.NamespaceSelector != nil && (end.namespace == nil || !matchesLabels(t, a.NamespaceSelector, end.namespace)):
			return false
		default:
			return a.PodSelector == nil || matchesLabels(t, a.PodSelector, end.labels)
		}
	})
}

// matchesPort looks names of ports up in the pod that is connected to.
func (m *manifests) matchesPort(t *testing.T, allowed []networking.NetworkPolicyPort, to peer, port string) bool {
	t.Helper()
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(a networking.NetworkPolicyPort) bool {
		if a.Port.Type == intstr.Int {
			return a.Port.String() == port
		}
		i := slices.IndexFunc(m.pods, func(p pod) bool { return p.owner == to.name })
		return i >= 0 && slices.ContainsFunc(m.pods[i].main().Ports, func(has core.ContainerPort) bool {
			return has.Name == a.Port.StrVal && itoa(uint32(has.ContainerPort)) == port
		})
	})
}
