//go:build unix

package main

import (
	"fmt"
	"io"
)

// Names of metrics: etcd's own, and the coordinator's.
const (
	memory       = "process_resident_memory_bytes"
	cpuSeconds   = "process_cpu_seconds_total"
	etcdCommits  = "etcd_server_proposals_applied_total"
	etcdPuts     = "etcd_mvcc_put_total"
	etcdRanges   = "etcd_mvcc_range_total"
	etcdEvents   = "etcd_debugging_mvcc_events_total"
	etcdRenewals = "etcd_debugging_lease_renewed_total"
	decisions    = "muster_coordinator_decision_seconds"
	plans        = "muster_coordinator_plan_seconds"
)

// table is what was measured, scene by scene.
type table struct{ scenes []measured }

func (t *table) add(m measured) { t.scenes = append(t.scenes, m) }

func (m measured) perSecond(of string) float64 { return m.etcd[of] / m.elapsed.Seconds() }

// cores is how many processors a process kept busy.
func cores(seconds float64, m measured) float64 { return seconds / m.elapsed.Seconds() }

func (m measured) String() string {
	return fmt.Sprintf("%.1f s; etcd: %.0f commits/s, %.0f puts/s, %.0f reads/s, %.0f events/s, %.0f renewals/s, %.2f cores; leader: %.2f cores, %.0f decisions of %.1f ms; %s",
		m.elapsed.Seconds(), m.perSecond(etcdCommits), m.perSecond(etcdPuts), m.perSecond(etcdRanges), m.perSecond(etcdEvents), m.perSecond(etcdRenewals),
		cores(m.etcd[cpuSeconds], m), cores(m.leader[cpuSeconds], m), m.leader[decisions], m.leader.mean(decisions), m.note)
}

// print writes the tables, in Markdown.
func (t *table) print(w io.Writer) {
	fmt.Fprintln(w, "\n| | what came out |\n|---|---|")
	for _, m := range t.scenes {
		fmt.Fprintf(w, "| %s | %s |\n", m.scene, m.note)
	}
	fmt.Fprintln(w, "\n| | s | commits/s | puts/s | reads/s | watch events/s | renewals/s | etcd cores | etcd MB | leader cores | leader MB | decisions | ms each | of it plan | all workers' cores |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, m := range t.scenes {
		if m.etcd == nil {
			continue
		}
		fmt.Fprintf(w, "| %s | %.1f | %.0f | %.0f | %.0f | %.0f | %.0f | %.2f | %.0f | %.2f | %.0f | %.0f | %.1f | %.1f | %.2f |\n",
			m.scene, m.elapsed.Seconds(), m.perSecond(etcdCommits), m.perSecond(etcdPuts), m.perSecond(etcdRanges), m.perSecond(etcdEvents), m.perSecond(etcdRenewals),
			cores(m.etcd[cpuSeconds], m), m.rss["etcd"]/1e6, cores(m.leader[cpuSeconds], m), m.rss["leader"]/1e6,
			m.leader[decisions], m.leader.mean(decisions), m.leader.mean(plans), cores(m.workers.Seconds(), m))
	}
}
