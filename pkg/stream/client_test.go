package stream

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/muster-gateway/muster/internal/certtest"
)

func TestOpen(t *testing.T) {
	tests := []struct {
		url  string
		want string // what the client is, and where it goes
	}{
		{"redis://127.0.0.1:6379/0", "server 127.0.0.1:6379 db 0"},
		{"redis://127.0.0.1", "server 127.0.0.1:6379 db 0"},
		{"redis://:pass@127.0.0.1:6380/3", "server 127.0.0.1:6380 db 3 password pass"},
		{"redis://me:p%40ss@[::1]:6380?read_timeout=1s", "server [::1]:6380 db 0 password p@ss"},
		{"rediss://127.0.0.1:6379", "server 127.0.0.1:6379 db 0 tls"},
		{"unix:///run/redis.sock?db=2", "server /run/redis.sock db 2"},
		{" redis://127.0.0.1:6379\n", "server 127.0.0.1:6379 db 0"},
		{"redis://a:1,b:2,c:3", "cluster a:1 b:2 c:3"},
		{"redis://:pass@a:1,b:2/0", "cluster a:1 b:2 password pass"},
		{"redis://a:1?addr=b:2", "cluster a:1 b:2"},
		{"redis://a:1?cluster=true", "cluster a:1"},
		{"rediss://a:1,b:2", "cluster a:1 b:2 tls"},
		{"redis://a:1,b:2/4?master_name=m&password=x", "sentinel db 4 password x"},
		{"redis://a:1?master_name=m", "sentinel db 0"},
	}
	for _, tt := range tests {
		client, err := Open(tt.url)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		if got := describe(client); got != tt.want {
			t.Errorf("%s is %q, want %q", tt.url, got, tt.want)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
}

func describe(client redis.UniversalClient) string {
	words := []string{"cluster"}
	password, tls := "", false
	switch c := client.(type) {
	case *redis.ClusterClient:
		words = append(words, c.Options().Addrs...)
		password, tls = c.Options().Password, c.Options().TLSConfig != nil
	case *redis.Client:
		words = []string{"server", c.Options().Addr}
		if c.Options().Addr == "FailoverClient" {
			words = []string{"sentinel"}
		}
		words = append(words, "db", string(rune('0'+c.Options().DB)))
		password, tls = c.Options().Password, c.Options().TLSConfig != nil
	}
	if password != "" {
		words = append(words, "password", password)
	}
	if tls {
		words = append(words, "tls")
	}
	return strings.Join(words, " ")
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]error{
		"":                           ErrURLScheme,
		"127.0.0.1:6379":             ErrURLScheme,
		"http://127.0.0.1":           ErrURLScheme,
		"secret@redis://127.0.0.1":   ErrURLScheme,
		"redis://127.0.0.1:port":     ErrURLForm,
		"redis://127.0.0.1/x":        ErrURLForm,
		"redis://127.0.0.1/1/2":      ErrURLForm,
		"redis://127.0.0.1?what=1":   ErrURLForm,
		"redis://127.0.0.1?db=x":     ErrURLForm,
		"redis://127.0.0.1?%zz":      ErrURLForm,
		"redis://a:1,b":              ErrURLForm,
		"redis://a:1,,b:2":           ErrURLForm,
		"redis://a:1,b:2/1":          ErrURLForm,
		"redis://:secret/x@a:1":      ErrURLForm,
		"redis://:sec%ret@a:1":       ErrURLForm,
		"redis://:secret@a:1?x=y":    ErrURLForm,
		"redis://:sec ret@a:1":       ErrURLForm,
		"redis://:sec?ret@a:1":       ErrURLForm,
		"unix://":                    ErrURLForm,
		"redis://a:1?ca=secret":      ErrURLTLS,
		"rediss://a:1?ca=secret":     ErrURLTLS,
		"rediss://a:1?ca=/dev/null":  ErrURLTLS,
		"rediss://a:1?cert=secret":   ErrURLTLS,
		"rediss://a:1?cert=a&key=b":  ErrURLTLS,
		"redis://a:1?master_name=m/": nil,
	}
	for url, want := range tests {
		client, err := Open(url)
		if !errors.Is(err, want) {
			t.Errorf("%q: error is %v, want %v", url, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error repeats a part of it: %v", url, err)
		}
		if client != nil {
			_ = client.Close()
		}
	}
}

// FuzzOpen: whatever the URL, there is a client or one of three texts, so that no
// part of a password is ever repeated.
func FuzzOpen(f *testing.F) {
	for _, url := range []string{
		"redis://user:secret@127.0.0.1:6379/0", "rediss://a:1,b:2?x", "unix:///a?db=1", "redis://:p?q@h", "redis://h?addr=",
		"redis://,", "redis://@", "redis://[::1", "redis://a?master_name=", "redis://a:1?master_name=m&addr=b:2", "rediss://a?ca=x&cert=y&key=z",
	} {
		f.Add(url)
	}
	f.Fuzz(func(t *testing.T, url string) {
		client, err := Open(url)
		switch {
		case err != nil && err != ErrURLScheme && err != ErrURLForm && !errors.Is(err, ErrURLTLS):
			t.Errorf("error is %q", err)
		case err == nil:
			_ = client.Close()
		}
	})
}

// The files of a URL are used whatever kind of Redis it is of.
func TestOpenWithFiles(t *testing.T) {
	authority := certtest.New(t)
	own := authority.Issue("muster")
	for _, url := range []string{"rediss://a:1?", "rediss://a:1,b:2?", "rediss://a:1?master_name=m&"} {
		client, err := Open(url + "ca=" + authority.File + "&cert=" + own.CertFile + "&key=" + own.KeyFile)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		var c *tls.Config
		switch client := client.(type) {
		case *redis.ClusterClient:
			c = client.Options().TLSConfig
		case *redis.Client:
			c = client.Options().TLSConfig
		}
		if c == nil || c.RootCAs == nil || len(c.Certificates) != 1 || c.InsecureSkipVerify {
			t.Errorf("%s has not what its files say: %+v", url, c)
		}
		_ = client.Close()
	}
	if _, err := Open("redis://a:1?ca=" + authority.File); !errors.Is(err, ErrURLTLS) {
		t.Errorf("files for a connection without TLS: %v", err)
	}
}
