package fleetapi

import (
	"context"
	"net/http"
)

func (s *server) listStates(w http.ResponseWriter, r *http.Request) error {
	p, err := s.records.read(r.Context())
	if err != nil {
		return err
	}
	query := r.URL.Query()
	page, next, err := pageOf(r, p.states(query.Get("unitName"), query.Get("machineID")))
	if err != nil {
		return err
	}
	states, err := s.states(r.Context(), page)
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, UnitStatePage{States: states, Next: next})
	return nil
}

// getState is the state of a unit on the machine that has it; of a global one, on the first.
func (s *server) getState(w http.ResponseWriter, r *http.Request) error {
	p, err := s.records.read(r.Context())
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	reports := p.states(name, "")
	if name == "" || len(reports) == 0 {
		return refuse(http.StatusNotFound, "no machine has a state of unit %s", name)
	}
	states, err := s.states(r.Context(), reports[:1])
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, states[0])
	return nil
}

// states completes states with the hashes of the files that they are of.
func (s *server) states(ctx context.Context, reports []report) ([]UnitState, error) {
	states := make([]UnitState, len(reports))
	file := func(r report) (string, string) { return r.Name, r.file }
	err := each(ctx, &s.contents, reports, file, func(i int, c content) {
		states[i] = reports[i].UnitState
		states[i].Hash = c.hash
	})
	return states, err
}
