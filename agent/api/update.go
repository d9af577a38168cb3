package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/musterhq/muster/cluster/store"
)

// Update tells how hosts update (GET /v1/update).
type Update struct {
	Enabled bool         `json:"enabled"` // the cluster file names a source of releases
	Channel string       `json:"channel,omitempty"`
	Paused  bool         `json:"paused"`
	Pin     string       `json:"pin,omitempty"`
	Hold    *UpdateHold  `json:"hold,omitempty"`
	Hosts   []UpdateHost `json:"hosts"` // sorted by name
	// History are what operators ordered and what failed, and Done what became of releases on hosts; the oldest first.
	History []UpdateEvent `json:"history"`
}

// UpdateHold is why nobody goes on.
type UpdateHold struct {
	Version string    `json:"version"`
	Host    string    `json:"host"` // name
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// UpdateHost is how far a host is.
type UpdateHost struct {
	Host    string    `json:"host"` // name
	Voter   bool      `json:"voter"`
	Engine  string    `json:"engine,omitempty"`
	Version string    `json:"version"`
	Phase   string    `json:"phase"` // update.Phase, or "" of a host that has not told
	Target  string    `json:"target,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// Busy says whether the host is on its way to another release.
func (h UpdateHost) Busy() bool { return h.Phase != "" && h.Phase != "idle" }

// UpdateEvent is one line of the history: of all hosts, or of one.
type UpdateEvent struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	Host   string    `json:"host,omitempty"` // name
	From   string    `json:"from,omitempty"`
	To     string    `json:"to,omitempty"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
}

// The verbs of an UpdateOrder.
const (
	UpdateNow    = "now"    // Hosts, or all, ask for releases at once and try again what failed there
	UpdatePause  = "pause"  // nobody begins to reboot
	UpdateResume = "resume" // go on, also after a release failed
	UpdatePin    = "pin"    // take Version and no other, or with "" any again
)

// UpdateOrder changes how hosts update for an operator (POST /v1/update/VERB).
type UpdateOrder struct {
	Hosts   []string `json:"hosts,omitempty"` // names or IDs
	Version string   `json:"version,omitempty"`
	Reason  string   `json:"reason,omitempty"`
}

// UpdateSettings are what the cluster file says of updates.
type UpdateSettings = store.UpdateSettings

// Update asks how hosts update.
func (c *Client) Update(ctx context.Context) (Update, error) {
	var u Update
	return u, c.get(ctx, "/v1/update", &u)
}

// OrderUpdate does one of the verbs of an UpdateOrder.
func (c *Client) OrderUpdate(ctx context.Context, verb string, order UpdateOrder) error {
	_, err := c.change(ctx, http.MethodPost, "/v1/update/"+url.PathEscape(verb), order)
	return err
}

func (s *Server) getUpdate(w http.ResponseWriter, r *http.Request, _ Caller) error {
	u, err := s.Fleet.Update(r.Context())
	if err != nil {
		return fmt.Errorf("cannot tell of updates: %w", err)
	}
	writeJSON(w, http.StatusOK, u)
	return nil
}

func (s *Server) postUpdate(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var order UpdateOrder
	if err := readJSON(r, &order); err != nil {
		return err
	}
	if err := s.Admin.OrderUpdate(r.Context(), r.PathValue("verb"), order); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
