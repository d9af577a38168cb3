package fleetapi

import (
	"context"
	"net/http"

	"github.com/musterhq/muster/cluster/store"
)

func (s *Server) listStates(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	v, err := s.reported(ctx)
	if err != nil {
		return err
	}
	page, next, err := statesPage(r, v)
	if err != nil {
		return err
	}
	states, err := s.states(ctx, page)
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, UnitStatePage{States: states, Next: next})
	return nil
}

// statesPage is the page of states that a request asks for.
func statesPage(r *http.Request, v snapshot) (page []report, next string, err error) {
	unit, machine := r.URL.Query().Get("unitName"), r.URL.Query().Get("machineID")
	if unit != "" {
		return pageOf(r, reports(v.View, unit, machine))
	}
	var l listing
	switch {
	case machine == "":
		l = v.all()
	case v.Ready(machine):
		l = list(v.View, []string{machine})
	}
	begin, end, next, err := pageAt(r, l.total)
	return l.slice(begin, end), next, err
}

// getState is the state of a unit on the machine that has it; of a global one, on the first.
func (s *Server) getState(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	v, err := s.reported(ctx)
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	list := reports(v.View, name, "")
	if len(list) == 0 {
		return refuse(http.StatusNotFound, "no machine has a state of unit %s", name)
	}
	states, err := s.states(ctx, list[:1])
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, states[0])
	return nil
}

// reported is what hosts say, if the store is there: what they said before it went away may not be so.
func (s *Server) reported(ctx context.Context) (snapshot, error) {
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if _, err := s.Store.Get(bounded, store.KeyCluster); err != nil {
		return snapshot{}, err
	}
	return s.mirror.now(ctx)
}

// states completes states with the hashes of the files that they are of.
func (s *Server) states(ctx context.Context, reports []report) ([]UnitState, error) {
	states := make([]UnitState, len(reports))
	file := func(r report) (string, string) { return r.Name, r.file }
	err := each(ctx, &s.contents, reports, file, func(i int, c content) {
		states[i] = reports[i].UnitState
		states[i].Hash = c.hash
	})
	return states, err
}
