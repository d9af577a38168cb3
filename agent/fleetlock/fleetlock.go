// Package fleetlock serves FleetLock, by which hosts of any operating system take part in the reboot lock (Zincati and
// others; COMPAT: FleetLock): POST /v1/pre-reboot takes a place of a group, POST /v1/steady-state gives it back, and both
// may be repeated. A client that is refused asks again; it has no place in the queue of the cluster's own hosts.
//
// The protocol knows no credentials. With certificates (agent/api) a client acts for its host: no other can give back what
// it took, and a voter is let go only when quorum allows it. Without them, on a listener that an administrator opened on
// purpose, whoever reaches it may take places of groups that there are, and give back those taken in the same way. Nobody
// disposes of what hosts, operators or locksmithctl hold.
package fleetlock

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"regexp"

	"github.com/musterhq/muster/agent/lock"
	"github.com/musterhq/muster/cluster/store"
)

// Handler answers both calls.
type Handler struct {
	Keeper *lock.Keeper
	// Host is the ID of the host that the caller's certificate names, "" if it names none.
	Host string
	Log  *slog.Logger
}

// groupPattern is the specification's.
var groupPattern = regexp.MustCompile(`^[a-zA-Z0-9.-]+$`)

// maxBody bounds a request.
const maxBody = 4 << 10

// request is the body of both calls.
type request struct {
	Params struct {
		ID    string `json:"id"`
		Group string `json:"group"`
	} `json:"client_params"`
}

// Failure is the body of every answer that is not 200: a word for programs and a text for people.
type Failure struct {
	Kind  string `json:"kind"`
	Value string `json:"value"`
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	act := map[string]func(*http.Request, string, store.LockHolder) error{
		"/v1/pre-reboot": h.take, "/v1/steady-state": h.giveBack,
	}[r.URL.Path]
	if act == nil {
		fail(w, http.StatusNotFound, "not_found", "there are /v1/pre-reboot and /v1/steady-state")
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		fail(w, http.StatusMethodNotAllowed, "bad_method", "use POST")
		return
	}
	if r.Header.Get("fleet-lock-protocol") != "true" {
		fail(w, http.StatusBadRequest, "missing_header", "a request has the header fleet-lock-protocol: true")
		return
	}
	var body request
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	if err := d.Decode(&body); err != nil || d.Decode(&struct{}{}) != io.EOF {
		fail(w, http.StatusBadRequest, "bad_body", "the body is not a JSON object with client_params")
		return
	}
	id, group := body.Params.ID, body.Params.Group
	if !lock.ValidHolder(id) || !lock.ValidGroup(group) || !groupPattern.MatchString(group) {
		fail(w, http.StatusBadRequest, "bad_client_params", "id has up to 128 characters without spaces, group up to 64 of a-z A-Z 0-9 . -")
		return
	}
	if err := act(r, group, store.LockHolder{ID: id, Kind: store.HolderFleetLock, Host: h.Host}); err != nil {
		h.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusOK)
}

// take makes no group: a caller without a name could make any number of them.
func (h *Handler) take(r *http.Request, group string, holder store.LockHolder) error {
	item, err := h.Keeper.Store.Get(r.Context(), store.LockKey(group))
	if err != nil {
		return err
	}
	if item.ModRevision == 0 && group != lock.DefaultGroup {
		return errGroup
	}
	return h.Keeper.Lock(r.Context(), group, holder, "FleetLock", "pre-reboot")
}

var errGroup = errors.New("there is no such group: `muster lock max N --group NAME` makes it")

func (h *Handler) giveBack(r *http.Request, group string, holder store.LockHolder) error {
	return h.Keeper.Unlock(r.Context(), group, holder, "FleetLock", "steady-state")
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refused *lock.Refused
	switch {
	case errors.As(err, &refused):
		fail(w, http.StatusConflict, "lock_refused", refused.Reason)
	case errors.Is(err, errGroup):
		fail(w, http.StatusNotFound, "unknown_group", err.Error())
	default:
		h.Log.Warn("FleetLock cannot answer", "path", r.URL.Path, "err", err)
		fail(w, http.StatusServiceUnavailable, "unavailable", "the cluster cannot decide now; ask again")
	}
}

func fail(w http.ResponseWriter, status int, kind, value string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(Failure{Kind: kind, Value: value}) // the caller is gone; nobody is left to tell
}
