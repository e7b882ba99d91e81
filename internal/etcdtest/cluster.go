package etcdtest

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
)

// Cluster is an etcd of three members. What any of them sends to any other can be held or delayed, in either direction by itself.
// It is safe for concurrent use.
type Cluster struct {
	Members []*Server

	ids  []types.ID
	ways [clusterSize][clusterSize]gate // from the first to the second
}

const clusterSize = 3

// StartCluster starts three members, which live as long as the test.
func StartCluster(tb testing.TB, change ...func(*embed.Config)) *Cluster {
	tb.Helper()
	c := &Cluster{}
	dir := tb.TempDir() // before the cleanup, so that it is there until the members have ended: one that cannot read it ends the process
	tb.Cleanup(c.close)
	if err := c.start(dir, change); err != nil {
		tb.Fatal(err)
	}
	return c
}

func (c *Cluster) start(dir string, change []func(*embed.Config)) error {
	cluster, urls := []string{}, types.URLsMap{}
	for i := range clusterSize {
		m := &Server{dir: filepath.Join(dir, memberName(i))}
		c.Members = append(c.Members, m)
		var err error
		if m.front, err = m.link(m.address, nil); err != nil {
			return err
		}
		peers, err := m.link(m.peerAddress, c.routeTo(i))
		if err != nil {
			return err
		}
		peer := url.URL{Scheme: "http", Host: peers.Endpoints()[0]}
		urls[memberName(i)] = types.URLs{peer}
		cluster = append(cluster, memberName(i)+"="+peer.String())
		m.change = append([]func(*embed.Config){func(config *embed.Config) {
			config.Name, config.AdvertisePeerUrls, config.InitialCluster = memberName(i), []url.URL{peer}, strings.Join(cluster, ",")
			config.TickMs, config.ElectionMs = 50, 500
		}}, change...)
	}
	members, err := membership.NewClusterFromURLsMap(nil, embed.NewConfig().InitialClusterToken, urls)
	if err != nil {
		return err
	}
	for i := range clusterSize {
		c.ids = append(c.ids, members.MemberByName(memberName(i)).ID)
	}
	if err := c.begin(c.Members...); err != nil {
		return err
	}
	for _, m := range c.Members {
		if err := m.ready(); err != nil {
			return err
		}
	}
	return nil
}

func memberName(i int) string { return fmt.Sprintf("member-%d", i) }

// serverFrom is the header by which members tell each other who they are.
var serverFrom = []byte("\r\nX-Server-From: ")

// routeTo tells by the head of its first request which member a connection to the given one comes from. Requests that are not
// Raft's, as for the version, do not say so, and always get through.
func (c *Cluster) routeTo(to int) route {
	return func(head []byte) (there, back *gate, ok bool) {
		head, _, ok = bytes.Cut(head, []byte("\r\n\r\n"))
		if !ok {
			return nil, nil, false
		}
		_, id, _ := bytes.Cut(head, serverFrom)
		id, _, _ = bytes.Cut(id, []byte("\r\n"))
		from := slices.IndexFunc(c.ids, func(member types.ID) bool { return member.String() == string(id) })
		if from < 0 {
			return new(gate), new(gate), true
		}
		return &c.ways[from][to], &c.ways[to][from], true
	}
}

// Endpoints is where clients connect: the members, in order.
func (c *Cluster) Endpoints() (all []string) {
	for _, m := range c.Members {
		all = append(all, m.Endpoints()...)
	}
	return all
}

// Links makes ways of their own to all members for one client, in the order of the members.
func (c *Cluster) Links(tb testing.TB) (links []*Link, endpoints []string) {
	tb.Helper()
	for _, m := range c.Members {
		link := m.Link(tb)
		links, endpoints = append(links, link), append(endpoints, link.Endpoints()...)
	}
	return links, endpoints
}

// Leader is the member that leads, as far as the members know; -1 if none does.
func (c *Cluster) Leader() int {
	leader, term := -1, uint64(0)
	for i, m := range c.Members {
		if member := m.running(); member != nil && member.Server.Leader() == c.ids[i] && member.Server.Term() > term {
			leader, term = i, member.Server.Term()
		}
	}
	return leader
}

// MoveLeader has a member lead in place of the one that does now.
func (c *Cluster) MoveLeader(to int) error {
	leader := c.Leader()
	if leader < 0 {
		return fmt.Errorf("move etcd's leader to %d: there is none", to)
	}
	member := c.Members[leader].running()
	if member == nil {
		return fmt.Errorf("move etcd's leader to %d: it has just stopped", to)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return member.Server.MoveLeader(ctx, uint64(c.ids[leader]), uint64(c.ids[to]))
}

// Hold keeps what one member sends from another, until Mend.
func (c *Cluster) Hold(from, to int) { c.ways[from][to].hold() }

// Isolate keeps a member and all others apart, in both directions, until Mend.
func (c *Cluster) Isolate(member int) {
	for other := range c.Members {
		if other != member {
			c.Hold(member, other)
			c.Hold(other, member)
		}
	}
}

// Delay keeps everything that members send to each other for a while, until Mend.
func (c *Cluster) Delay(d time.Duration) {
	for from := range c.ways {
		for to := range c.ways[from] {
			c.ways[from][to].slow(d)
		}
	}
}

// Mend makes the network between the members whole again.
func (c *Cluster) Mend() {
	for from := range c.ways {
		for to := range c.ways[from] {
			c.ways[from][to].mend()
		}
	}
}

// Stop ends members, one after the other, and keeps their data.
func (c *Cluster) Stop(members ...int) {
	for _, i := range members {
		c.Members[i].Stop()
	}
}

// Restart starts members that were stopped. It does not wait for them to find a leader, which may not be possible.
func (c *Cluster) Restart(members ...int) error {
	var stopped []*Server
	for _, i := range members {
		stopped = append(stopped, c.Members[i])
	}
	return c.begin(stopped...)
}

// begin starts members together: the first ones of a new cluster wait for each other.
func (c *Cluster) begin(members ...*Server) error {
	errs := make(chan error, len(members))
	for _, m := range members {
		go func() { errs <- m.begin() }()
	}
	var first error
	for range members {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// close ends the leader last: one that stops waits for another to lead, and must not choose one that stops too.
func (c *Cluster) close() {
	c.Mend()
	leader := c.Leader()
	for i, m := range c.Members {
		if i != leader {
			m.Close()
		}
	}
	if leader >= 0 {
		c.Members[leader].Close()
	}
}
