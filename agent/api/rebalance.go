package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/musterhq/muster/cluster/backup"
)

// Rebalance is what would move now to even out the load, and how far rebalancing is (GET /v1/rebalance; ?moves=N for at
// most so many).
type Rebalance struct {
	Moves []Move `json:"moves"`
	// Active is whether rebalancing is under way; Cause why, and Stopped why it ended too early, "" if it did not.
	Active  bool   `json:"active"`
	Cause   string `json:"cause,omitempty"`
	Stopped string `json:"stopped,omitempty"`
	// Moved is what moved last, at MovedAt.
	Moved   []Move     `json:"moved,omitempty"`
	MovedAt *time.Time `json:"moved_at,omitempty"`
}

// Move is a unit, or instances of a template, that goes from one host to another.
type Move struct {
	Unit      string `json:"unit"`
	Instances string `json:"instances,omitempty"` // "1-200,305"
	From      string `json:"from"`                // host's name
	To        string `json:"to"`
	Reason    string `json:"reason"`
}

// RebalanceOrder begins rebalancing (POST /v1/rebalance). The leader makes the moves, some at a time.
type RebalanceOrder struct {
	MaxMoves int `json:"max_moves,omitempty"` // 0: all that gain something
}

// Settings are what of the cluster file running voters must know (PUT /v1/settings). Null leaves one as it is.
type Settings struct {
	RebalancePercent *int `json:"rebalance_percent,omitempty"`
	// Voters is how many the cluster shall have, and VoterGrace how long one may be silent before another host takes its
	// place, in nanoseconds.
	Voters     *int           `json:"voters,omitempty"`
	VoterGrace *time.Duration `json:"voter_grace,omitempty"`
	// Backups is how voters write backups by themselves.
	Backups *backup.Schedule `json:"backups,omitempty"`
	// Barred are the IDs of all hosts that shall never vote; null leaves them as they are.
	Barred *[]string `json:"barred,omitempty"`
	// Update is how hosts update.
	Update *UpdateSettings `json:"update,omitempty"`
}

// Rebalance asks what would move, at most so many units; 0 for all.
func (c *Client) Rebalance(ctx context.Context, moves int) (Rebalance, error) {
	var r Rebalance
	return r, c.get(ctx, "/v1/rebalance?moves="+strconv.Itoa(moves), &r)
}

// OrderRebalance begins rebalancing.
func (c *Client) OrderRebalance(ctx context.Context, order RebalanceOrder) error {
	_, err := c.change(ctx, http.MethodPost, "/v1/rebalance", order)
	return err
}

// Configure changes the cluster's settings.
func (c *Client) Configure(ctx context.Context, settings Settings) (Outcome, error) {
	return c.change(ctx, http.MethodPut, "/v1/settings", settings)
}

func (s *Server) getRebalance(w http.ResponseWriter, r *http.Request, _ Caller) error {
	moves := 0
	if text := r.URL.Query().Get("moves"); text != "" {
		var err error
		if moves, err = strconv.Atoi(text); err != nil || moves < 0 {
			return Errorf(http.StatusBadRequest, "give a number, 0 for all", "moves=%s is no number of moves", text)
		}
	}
	answer, err := s.Fleet.Rebalance(r.Context(), moves)
	if err != nil {
		return fmt.Errorf("cannot tell what would move: %w", err)
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

func (s *Server) postRebalance(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var order RebalanceOrder
	if err := readJSON(r, &order); err != nil {
		return err
	}
	if err := s.Admin.OrderRebalance(r.Context(), order); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) putSettings(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var settings Settings
	if err := readJSON(r, &settings); err != nil {
		return err
	}
	outcome, err := s.Admin.Configure(r.Context(), settings)
	if err != nil {
		return err
	}
	writeOutcome(w, outcome)
	return nil
}
