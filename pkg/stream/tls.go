package stream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
)

// ErrURLTLS is an error of Open, which may say more.
var ErrURLTLS = errors.New("redis url: the options ca, cert and key are for rediss:// and name PEM files, cert and key together")

// tlsFiles is what the options ca, cert and key of a URL name.
type tlsFiles struct {
	authority *x509.CertPool // nil: the system's
	own       []tls.Certificate
}

// takeTLSFiles reads the files that the options name, and removes those. Without any it returns nil.
func takeTLSFiles(options url.Values) (*tlsFiles, error) {
	ca, cert, key := options.Get("ca"), options.Get("cert"), options.Get("key")
	for _, name := range []string{"ca", "cert", "key"} {
		options.Del(name)
	}
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	if (cert == "") != (key == "") {
		return nil, ErrURLTLS
	}
	var f tlsFiles
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("%w: ca: %w", ErrURLTLS, withoutPath(err))
		}
		f.authority = x509.NewCertPool()
		if !f.authority.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ca: no certificate in it", ErrURLTLS)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%w: cert and key: %w", ErrURLTLS, withoutPath(err))
		}
		f.own = []tls.Certificate{pair}
	}
	return &f, nil
}

// withoutPath is an error without the file's path, which came from the URL: see the errors of Open.
func withoutPath(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}

// use adds what was read to a configuration. On nil it does nothing.
func (f *tlsFiles) use(c *tls.Config) {
	if f == nil {
		return
	}
	c.RootCAs, c.Certificates = f.authority, f.own
}
