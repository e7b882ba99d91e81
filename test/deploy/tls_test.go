package deploy

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// loadCerts are the CA and the client's certificate that make-certs has made.
func loadCerts(t *testing.T, dir string) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("ca.crt holds no certificate")
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		t.Fatal(err)
	}
	return pool, pair
}

// handshake makes a request of a server that is to have the name, which shows whether both sides accept each other.
func handshake(address, name string, pool *x509.CertPool, own ...tls.Certificate) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool, ServerName: name, Certificates: own},
	}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(address + "/health")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
