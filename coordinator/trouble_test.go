package coordinator

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

// What fails again and again is said when it begins, once a minute, and when it is over, which only a write that succeeds can tell.
func TestLeaderTellsItsTroubleNowAndThen(t *testing.T) {
	var out bytes.Buffer
	l := &leader{log: hclog.New(&hclog.LoggerOptions{Output: &out})}
	now := epoch
	expect := func(when string, failing, over int) {
		t.Helper()
		if a, b := strings.Count(out.String(), "leader's writes fail"), strings.Count(out.String(), "leader's writes succeed again"); a != failing || b != over {
			t.Errorf("%s it said so %d and %d times, want %d and %d\n%s", when, a, b, failing, over, &out)
		}
	}
	l.tellTrouble(nil, true, now)
	expect("before", 0, 0)
	for range 10 * time.Minute / time.Second {
		l.tellTrouble(errors.New("no space"), true, now)
		l.tellTrouble(nil, false, now)
		now = now.Add(time.Second)
	}
	expect("in ten minutes", 10, 0)
	l.tellTrouble(nil, true, now)
	expect("afterwards", 10, 1)
	if !strings.Contains(out.String(), "failed-for=10m0s") {
		t.Errorf("it does not say for how long:\n%s", &out)
	}
	l.tellTrouble(nil, true, now)
	l.tellTrouble(errors.New("no space"), false, now)
	expect("when it begins again", 11, 1)
}

// An etcd without space takes no writes, and the leader says so once.
func TestLeaderWithoutSpace(t *testing.T) {
	t.Parallel()
	own := etcdtest.Start(t)
	client, err := clientv3.New(clientv3.Config{Endpoints: own.Endpoints(), Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	o := newOfficeAt(t, storeAt(t, own.Endpoints(), "c"), 1, 1, 100)
	var out bytes.Buffer
	o.lead.log = hclog.New(&hclog.LoggerOptions{Output: &out})
	o.request(0, false)
	state := o.fresh()
	alarm := &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE}
	_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(t.Context(), alarm)
	must(t, err)
	for range 10 {
		if _, err := o.lead.act(t.Context(), state.Clone(), o.now); err != nil {
			t.Fatal(err)
		}
		o.pass(retryAfter)
	}
	if n := strings.Count(out.String(), "database space exceeded"); n != 1 {
		t.Errorf("it says so %d times:\n%s", n, &out)
	}
	_, err = client.AlarmDisarm(t.Context(), &clientv3.AlarmMember{})
	must(t, err)
	o.act()
	if !strings.Contains(out.String(), "leader's writes succeed again") {
		t.Errorf("it does not say that it goes on:\n%s", &out)
	}
}
