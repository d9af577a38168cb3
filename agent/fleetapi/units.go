package fleetapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cluster/store"
)

func (s *Server) listUnits(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	all, err := s.Store.Range(ctx, store.PrefixUnits)
	if err != nil {
		return err
	}
	items, next, err := pageOf(r, all.Items) // sorted by key, and so by name
	if err != nil {
		return err
	}
	var list []wanted
	for _, item := range items {
		name, _ := store.KeyName(store.PrefixUnits, item.Key)
		if record, err := store.Unmarshal[store.UnitRecord](item.Value); err == nil { // else a newer muster wrote it
			list = append(list, wanted{name, record})
		}
	}
	units, err := s.units(ctx, list)
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, UnitPage{Units: units, Next: next})
	return nil
}

func (s *Server) getUnit(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	name := r.PathValue("name")
	record, known, err := s.record(ctx, name)
	if err != nil {
		return err
	}
	if !known {
		return errNoUnit(name)
	}
	units, err := s.units(ctx, []wanted{{name, record}})
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, units[0])
	return nil
}

func errNoUnit(name string) *Error {
	return refuse(http.StatusNotFound, "unit %s does not exist", name)
}

// wanted is a unit as it was submitted.
type wanted struct {
	name   string
	record store.UnitRecord
}

// units completes units with where they are and what their files say. A global one is on many machines and so on none.
func (s *Server) units(ctx context.Context, list []wanted) ([]Unit, error) {
	if len(list) == 0 {
		return nil, nil
	}
	v, err := s.mirror.now(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(list))
	for i, u := range list {
		names[i] = u.name
	}
	seats := v.Seats(names...)
	units := make([]Unit, len(list))
	file := func(u wanted) (string, string) { return u.name, u.record.File }
	err = each(ctx, &s.contents, list, file, func(i int, c content) {
		name, record := list[i].name, list[i].record
		if record.Replicated {
			units[i] = templateAt(name, record, v.ReplicaSeats(name))
		} else {
			units[i] = unitAt(name, record.Desired, seats[name])
		}
		units[i].Options = c.options
		if c.global {
			units[i].CurrentState, units[i].MachineID = "", ""
		}
	})
	return units, err
}

// record reads a unit's record. known tells whether there is one.
func (s *Server) record(ctx context.Context, name string) (record store.UnitRecord, known bool, err error) {
	item, err := s.Store.Get(ctx, store.UnitKey(name))
	if err != nil || item.ModRevision == 0 {
		return record, false, err
	}
	record, err = store.Unmarshal[store.UnitRecord](item.Value)
	return record, err == nil, err
}

// setUnit makes a unit, replaces its options, or changes its desired state.
func (s *Server) setUnit(w http.ResponseWriter, r *http.Request) error {
	u, err := readUnit(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	record, known, err := s.record(ctx, u.Name)
	if err != nil {
		return err
	}
	has, err := s.contents.get(ctx, u.Name, record.File)
	if err != nil {
		return err
	}
	if u.text == nil {
		u.replicated = record.Replicated
	}
	change := api.Unit{Name: u.Name, Desired: u.DesiredState}
	status := http.StatusNoContent
	switch {
	case !u.replicated && unitfile.IsTemplate(u.Name) && u.DesiredState != "" && u.DesiredState != stateInactive:
		return badRequest("%s is a template: only its instances can be %s", u.Name, u.DesiredState)
	case !known && u.text == nil:
		return errNothingToMake()
	case !known, u.text != nil && !slices.Equal(has.options, u.Options):
		change.Content, status = string(u.text), http.StatusCreated
	case u.DesiredState == "":
		return refuse(http.StatusConflict, "must provide DesiredState to update existing unit")
	}
	_, err = s.Changes.PutUnit(ctx, change)
	if api.IsNotFound(err) { // it was there a moment ago
		return errNothingToMake()
	}
	if err != nil {
		return err
	}
	w.WriteHeader(status)
	return nil
}

func errNothingToMake() *Error {
	return refuse(http.StatusConflict, "unit does not exist and options field empty")
}

// submission is what a request wants of a unit.
type submission struct {
	Unit
	text       []byte // of its unit file, nil without options
	replicated bool   // the file asks for replicas
}

func readUnit(r *http.Request) (u submission, err error) {
	if err := checkContentType(r.Header); err != nil {
		return u, err
	}
	if err := decode(r, &u.Unit); err != nil {
		return u, err
	}
	name := r.PathValue("name")
	if u.Name == "" {
		u.Name = name
	}
	if u.Name != name {
		return u, badRequest("name in URL %q differs from unit name in request body %q", name, u.Name)
	}
	if err := unitfile.CheckName(name); err != nil {
		return u, badRequest("%v", err)
	}
	if u.DesiredState != "" && !slices.Contains(progress, u.DesiredState) {
		return u, badRequest("there is no desired state %q; use inactive, loaded or launched", u.DesiredState)
	}
	if len(u.Options) == 0 {
		return u, nil
	}
	f, err := fileOf(name, u.Options)
	u.text, u.Options, u.replicated = f.Bytes(), optionsOf(f), f.Muster(name).Replicated
	return u, err
}

// checkContentType wants exactly one type, JSON, whatever its parameters.
func checkContentType(h http.Header) error {
	types := h.Values("Content-Type")
	if len(types) == 1 && (types[0] == "application/json" || strings.HasPrefix(types[0], "application/json;")) {
		return nil
	}
	return refuse(http.StatusUnsupportedMediaType, "the body must be application/json, and say so once")
}

func (s *Server) deleteUnit(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if unitfile.CheckName(name) != nil {
		return errNoUnit(name)
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	err := s.Changes.DeleteUnit(ctx, name)
	if api.IsNotFound(err) {
		return errNoUnit(name)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
