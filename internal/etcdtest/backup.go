package etcdtest

import (
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	save "go.etcd.io/etcd/client/v3/snapshot"
	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// Backup is what etcd had at some moment.
type Backup struct{ file string }

// Backup takes a snapshot, as "etcdctl snapshot save" does. It lives as long as the test.
func (s *Server) Backup(tb testing.TB) Backup {
	tb.Helper()
	b := Backup{filepath.Join(tb.TempDir(), "snapshot.db")}
	if _, err := save.SaveWithVersion(tb.Context(), zap.NewNop(), clientv3.Config{Endpoints: s.Endpoints(), Logger: zap.NewNop()}, b.file); err != nil {
		tb.Fatal(err)
	}
	return b
}

// RestoreOptions are those of "etcdutl snapshot restore" that make a difference to clients.
type RestoreOptions struct {
	Token string // --initial-cluster-token: another makes it another cluster; empty: the same
	Bump  uint64 // --bump-revision, with --mark-compacted
}

// Restore starts a lone member with what a backup has instead of what it had itself, which is lost.
func (s *Server) Restore(tb testing.TB, b Backup, o RestoreOptions) {
	tb.Helper()
	s.Stop()
	config := s.config()
	if o.Token == "" {
		o.Token = config.InitialClusterToken
	}
	if err := os.RemoveAll(config.Dir); err != nil {
		tb.Fatal(err)
	}
	err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: b.file, Name: config.Name, PeerURLs: []string{config.AdvertisePeerUrls[0].String()},
		InitialCluster: config.InitialCluster, InitialClusterToken: o.Token, OutputDataDir: config.Dir,
		RevisionBump: o.Bump, MarkCompacted: o.Bump > 0,
	})
	if err == nil {
		err = s.launch()
	}
	if err != nil {
		tb.Fatal(err)
	}
}
