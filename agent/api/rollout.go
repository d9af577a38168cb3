package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Rollout tells how new contents reach the members of a unit: instances of a template, or hosts of a global unit.
type Rollout struct {
	Unit   string `json:"unit"`
	Phase  string `json:"phase"` // updating, rolling back, done, failed, undone
	Paused bool   `json:"paused"`
	Reason string `json:"reason"` // why it is paused, goes back or failed
	// What the members are: instances, hosts, units. Updated of Total have the new contents, of which Ready are well.
	What    string `json:"what"`
	Total   int    `json:"total"`
	Updated int    `json:"updated"`
	Ready   int    `json:"ready"`
	// So many are updated at a time, or that percentage of all.
	Parallel int        `json:"parallel,omitempty"`
	Percent  int        `json:"percent,omitempty"`
	From     string     `json:"from"` // SHA-256 of the old contents
	To       string     `json:"to"`   // of the new ones
	Started  time.Time  `json:"started"`
	Ended    *time.Time `json:"ended,omitempty"`
}

// Active says whether the rollout goes on, or would if it were not paused.
func (r Rollout) Active() bool { return r.Phase == "updating" || r.Phase == "rolling back" }

// Text is the rollout in a sentence.
func (r Rollout) Text() string {
	text := "rollout of " + r.Unit + " "
	switch {
	case r.Phase == "failed":
		return text + "failed and was rolled back: " + r.Reason + "; submit the file anew to try it again"
	case !r.Active():
		text += "is " + r.Phase
	default:
		text += fmt.Sprintf("is %s, %d of %d %s have the new contents", r.Phase, r.Updated, r.Total, r.What)
	}
	if r.Paused {
		text += ", paused"
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	if r.Paused {
		text += fmt.Sprintf("; `muster rollout resume %s` goes on", r.Unit)
	}
	return text
}

// The verbs of Admin.ChangeRollout.
const (
	RolloutPause  = "pause"
	RolloutResume = "resume"
	RolloutUndo   = "undo"
)

func (s *Server) postRollout(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if err := s.Admin.ChangeRollout(r.Context(), r.PathValue("name"), r.PathValue("verb")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// ChangeRollout pauses, resumes or undoes the rollout of a unit.
func (c *Client) ChangeRollout(ctx context.Context, unit, verb string) error {
	_, err := c.change(ctx, http.MethodPost, "/v1/rollouts/"+url.PathEscape(unit)+"/"+url.PathEscape(verb), nil)
	return err
}
