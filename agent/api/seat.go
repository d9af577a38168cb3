package api

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/cluster/join"
)

// Seat is what the voters know of the vote of the host that asks (GET /v1/seat).
type Seat struct {
	Votes bool `json:"votes"` // by the roster it is a voter, or shall become one
	// Member says that etcd has a member of the host that has started once; Reserved, that it has one that has not.
	Member   bool `json:"member"`
	Reserved bool `json:"reserved"`
}

// SeatOrder says whether a host shall vote (PUT /v1/hosts/{id}/seat).
type SeatOrder struct {
	Votes bool `json:"votes"`
}

// Seat asks the voters about the caller's own vote.
func (c *Client) Seat(ctx context.Context) (Seat, error) {
	var s Seat
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/v1/seat", voter: true})
	if err != nil {
		return s, err
	}
	return s, decode(resp, &s)
}

// TakeSeat asks, as a host that shall vote, for what it needs for that. It may be repeated.
func (c *Client) TakeSeat(ctx context.Context) (join.VoterRole, error) {
	var role join.VoterRole
	resp, err := c.do(ctx, request{method: http.MethodPost, path: "/v1/seat", voter: true})
	if err != nil {
		return role, err
	}
	return role, decode(resp, &role)
}

// OrderSeat says whether a host shall vote.
func (c *Client) OrderSeat(ctx context.Context, hostID string, votes bool) (Outcome, error) {
	return c.change(ctx, http.MethodPut, "/v1/hosts/"+hostID+"/seat", SeatOrder{Votes: votes})
}

func (s *Server) getSeat(w http.ResponseWriter, r *http.Request, c Caller) error {
	seat, err := s.Admin.Seat(r.Context(), c.ID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, seat)
	return nil
}

func (s *Server) postSeat(w http.ResponseWriter, r *http.Request, c Caller) error {
	role, err := s.Admin.TakeSeat(r.Context(), c.ID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, role)
	return nil
}

func (s *Server) putSeat(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var order SeatOrder
	if err := readJSON(r, &order); err != nil {
		return err
	}
	outcome, err := s.Admin.OrderSeat(r.Context(), r.PathValue("id"), order.Votes)
	if err != nil {
		return err
	}
	writeOutcome(w, outcome)
	return nil
}
