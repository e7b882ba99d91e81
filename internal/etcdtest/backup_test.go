package etcdtest_test

import (
	"testing"

	"github.com/muster-gateway/muster/internal/etcdtest"
)

func TestRestore(t *testing.T) {
	for name, o := range map[string]etcdtest.RestoreOptions{
		"the same cluster": {}, "another cluster": {Token: "another"}, "bumped": {Bump: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			server := etcdtest.Start(t)
			client := connect(t, server.Endpoints())
			put(t, client, "before")
			backup := server.Backup(t)
			put(t, client, "after")
			had, err := client.Get(t.Context(), "key")
			if err != nil {
				t.Fatal(err)
			}
			server.Restore(t, backup, o)
			if got := eventually(t, client, "key"); got != "before" {
				t.Errorf("the key is %q", got)
			}
			has, err := client.Get(t.Context(), "key")
			if err != nil {
				t.Fatal(err)
			}
			if had.Header.ClusterId == has.Header.ClusterId != (o.Token == "") {
				t.Errorf("cluster %x became %x", had.Header.ClusterId, has.Header.ClusterId)
			}
			if had.Header.Revision < has.Header.Revision != (o.Bump > 0) {
				t.Errorf("revision %d became %d", had.Header.Revision, has.Header.Revision)
			}
		})
	}
}
