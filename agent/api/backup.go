package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
)

// RestoreOrder is what comes before the backup in the body of POST /v1/restore, as JSON on a line of its own: what the host
// becomes. Without Voter it only learns who belongs to the cluster now, and no backup follows.
type RestoreOrder struct {
	Roster roster.Roster   `json:"roster"`
	Voter  *join.VoterRole `json:"voter,omitempty"`
	// Foreign says that the operator knows that the backup is of another cluster.
	Foreign bool `json:"foreign,omitempty"`
}

// maxOrder bounds a RestoreOrder: a roster of 10,000 hosts.
const maxOrder = 8 << 20

// transferTimeout bounds the time of a backup on its way, or until the next piece of it.
const transferTimeout = 10 * time.Minute

// Recovery is what every host can do for an operator whose voters are gone.
type Recovery interface {
	// Restore has this host begin anew: as one of the voters that start from a backup, or as a client of theirs.
	Restore(ctx context.Context, order RestoreOrder, backup io.Reader) error
}

// Backup copies a backup to w, as a voter takes it now (cluster/backup).
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/v1/backup", voter: true})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the backup ended early: %w", err)
	}
	return nil
}

// Restore has the client's first endpoint, a host, begin anew. backup may be nil for a host that does not vote.
func (c *Client) Restore(ctx context.Context, order RestoreOrder, backup io.Reader) error {
	head, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("cannot encode the request: %w", err)
	}
	body := io.Reader(bytes.NewReader(append(head, '\n')))
	if backup != nil {
		body = io.MultiReader(body, backup)
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.scheme+"://"+c.endpoints[0].Address+"/v1/restore", body)
	if err != nil {
		return fmt.Errorf("cannot make the request: %w", err)
	}
	patient := &Client{http: &http.Client{Transport: c.http.Transport}}
	if t, ok := c.http.Transport.(*http.Transport); ok { // the host checks and writes everything before it answers
		t = t.Clone()
		t.ResponseHeaderTimeout = transferTimeout
		patient.http.Transport = t
	}
	defer patient.Close()
	resp, err := patient.exchange(c.endpoints[0], req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (s *Server) getBackup(w http.ResponseWriter, r *http.Request, _ Caller) error {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(transferTimeout)) // one who does not read is cut off
	w.Header().Set("Content-Type", "application/x-tar")
	w.WriteHeader(http.StatusOK)
	_ = control.Flush() // taking it may need longer than the caller waits for a first sign
	if err := s.Admin.Backup(r.Context(), w); err != nil {
		s.Log.Error("cannot give a backup", "err", err)
		panic(http.ErrAbortHandler) // the caller sees a broken stream, not a complete one
	}
	return nil
}

func (s *Server) postRestore(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if s.Recovery == nil {
		return Errorf(http.StatusNotFound, hintVersions, "this host cannot be restored")
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(transferTimeout))
	_ = control.SetWriteDeadline(time.Now().Add(transferTimeout + answerTimeout))
	head := json.NewDecoder(io.LimitReader(r.Body, maxOrder))
	var order RestoreOrder
	if err := head.Decode(&order); err != nil || len(order.Roster) == 0 {
		return Errorf(http.StatusBadRequest, hintVersions, "cannot read the request: %v", errors.Join(err, errNoRoster))
	}
	if err := s.Recovery.Restore(r.Context(), order, backupAfter(head, r.Body)); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

var errNoRoster = errors.New("it names no hosts")

// backupAfter is what follows the line that a decoder has read.
func backupAfter(head *json.Decoder, body io.Reader) io.Reader {
	rest := head.Buffered()
	var newline [1]byte
	if n, _ := rest.Read(newline[:]); n == 0 {
		_, _ = body.Read(newline[:])
	}
	return io.MultiReader(rest, body)
}
