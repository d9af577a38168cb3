package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/musterhq/muster/providers/metal/ledger"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Refusal is a server's answer that the same request will get again. Other errors may pass.
type Refusal struct {
	Status int // of HTTP, 400 to 499 or 507
	Reason string
}

func (r *Refusal) Error() string { return r.Reason }

// Client is a machine's side. Every method asks once.
type Client struct {
	task netboot.Task
	http *http.Client
}

// requestTime is how long an answer may take.
const requestTime = 30 * time.Second

// NewClient returns the client for a task, with a key of its own that lives as long as it.
func NewClient(task netboot.Task) (*Client, error) {
	server, err := url.Parse(task.Server)
	if err != nil {
		return nil, fmt.Errorf("cannot report to %q: %w", task.Server, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("cannot make a key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: serial()}
	own, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{{Certificate: [][]byte{own.Raw}, PrivateKey: key}},
		InsecureSkipVerify: true, // verify does more
		VerifyConnection:   func(state tls.ConnectionState) error { return verify(state, server.Hostname(), task.CA) },
	}
	return &Client{task, &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: requestTime}}, nil
}

// verify accepts a server whose certificate is for host and comes from the CA with a hash. Machines whose clock's battery
// is dead live in another year, and the hash came with this boot, so what counts as now is the certificate's beginning.
func verify(state tls.ConnectionState, host, ca string) error {
	leaf := state.PeerCertificates[0]
	roots := x509.NewCertPool()
	for _, certificate := range state.PeerCertificates[1:] {
		if certificate.IsCA && hash(certificate.Raw) == ca {
			roots.AddCert(certificate)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: leaf.NotBefore})
	if err != nil {
		return fmt.Errorf("cannot trust the server: it is not who the boot script named: %w", err)
	}
	return nil
}

// Facts says what a machine without a boot is made of.
func (c *Client) Facts(ctx context.Context, facts ledger.Facts) error {
	_, err := c.post(ctx, pathFacts, factsRequest{c.task.MAC, facts})
	return err
}

// Claim makes the boot this client's, and returns what to do.
func (c *Client) Claim(ctx context.Context, facts ledger.Facts) (Order, error) {
	body, err := c.post(ctx, pathClaim, claimRequest{c.task.Boot, facts})
	if err != nil {
		return Order{}, err
	}
	var order Order
	if err := json.Unmarshal(body, &order); err != nil {
		return Order{}, fmt.Errorf("cannot read what to do: %w", err)
	}
	return order, nil
}

// Progress says how far the machine is. StageStarted is to be answered before the disk changes.
func (c *Client) Progress(ctx context.Context, p Progress) error {
	_, err := c.post(ctx, pathProgress, progressRequest{c.task.Boot, p})
	return err
}

// Outcome says how it ended. reason is empty when all went well; of a long one the beginning is sent.
func (c *Client) Outcome(ctx context.Context, reason string) error {
	_, err := c.post(ctx, pathOutcome, outcomeRequest{c.task.Boot, shorten(reason)})
	return err
}

// UserData fetches the user-data. It is sent once: an answer that is lost ends the attempt.
func (c *Client) UserData(ctx context.Context) ([]byte, error) {
	return c.post(ctx, pathUserData, userDataRequest{c.task.Boot})
}

// shorten makes a text one that checkText takes.
func shorten(reason string) string {
	reason = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, reason)
	return reason[:min(len(reason), maxReason)]
}

func (c *Client) post(ctx context.Context, path string, request any) ([]byte, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("cannot write a request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.task.Server, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s: %w", c.task.Server, err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the server: %w", err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot read the server's answer: %w", err)
	case len(data) > maxAnswer:
		return nil, errors.New("cannot read the server's answer: it is too long")
	case answer.StatusCode == http.StatusOK:
		return data, nil
	}
	var said failure
	if json.Unmarshal(data, &said) != nil || said.Error == "" {
		said.Error = answer.Status
	}
	reason := fmt.Sprintf("the server refuses %s: %s", strings.TrimPrefix(path, "/enrol/"), said.Error)
	if answer.StatusCode >= 400 && answer.StatusCode < 500 || answer.StatusCode == http.StatusInsufficientStorage {
		return nil, &Refusal{answer.StatusCode, reason}
	}
	return nil, errors.New(reason)
}
