package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/muster-gateway/muster/internal/certtest"
)

// Secured has clients speak TLS and show a certificate of the same authority. Passwords, if there are users, are cheap to check.
func Secured(a *certtest.Authority) func(*embed.Config) {
	own := a.Issue("etcd")
	return func(c *embed.Config) {
		c.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
		c.AdvertiseClientUrls = c.ListenClientUrls
		c.BcryptCost = 4 // the least
		c.ClientTLSInfo = transport.TLSInfo{CertFile: own.CertFile, KeyFile: own.KeyFile, TrustedCAFile: a.File, ClientCertAuth: true}
	}
}

// Guard adds a root, and carries out the commands of etcdctl that a page has in its first block with one that enables authentication: a mistake in it is
// a failed test. Everybody gets the same password. Clients without a user are let in until it returns.
func Guard(ctx context.Context, client *clientv3.Client, password, page string) error {
	_, err := client.RoleAdd(ctx, "root")
	if err == nil {
		_, err = client.UserAdd(ctx, "root", password)
	}
	if err == nil {
		_, err = client.UserGrantRole(ctx, "root", "root")
	}
	if err != nil {
		return fmt.Errorf("add root: %w", err)
	}
	before, _, found := strings.Cut(page, "etcdctl auth enable\n")
	if !found {
		return errors.New("the page does not say: etcdctl auth enable")
	}
	commands := before[strings.LastIndex(before, "```sh\n")+len("```sh\n"):] + "etcdctl auth enable\n"
	for command := range strings.Lines(commands) {
		if err := etcdctl(ctx, client, password, strings.Fields(command)); err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(command), err)
		}
	}
	return nil
}

// etcdctl carries out one command.
func etcdctl(ctx context.Context, client *clientv3.Client, password string, words []string) (err error) {
	var what, object, more string
	if len(words) > 2 && words[0] == "etcdctl" {
		what, object, more = words[1]+" "+words[2], strings.Join(words[3:min(len(words), 4)], ""), strings.Join(words[min(len(words), 4):], " ")
	}
	switch what {
	case "role add":
		_, err = client.RoleAdd(ctx, object)
	case "role grant-permission":
		prefix, is := strings.CutPrefix(more, "--prefix=true readwrite ")
		if !is {
			return errors.New("not a right to read and write a prefix")
		}
		_, err = client.RoleGrantPermission(ctx, object, prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
	case "user add":
		_, err = client.UserAdd(ctx, object, password)
	case "user grant-role":
		_, err = client.UserGrantRole(ctx, object, more)
	case "auth enable":
		_, err = client.AuthEnable(ctx)
	default:
		err = errors.New("not a command that is known here")
	}
	return err
}
