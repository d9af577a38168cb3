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

func (s *server) listUnits(w http.ResponseWriter, r *http.Request) error {
	p, err := s.records.read(r.Context())
	if err != nil {
		return err
	}
	names, next, err := pageOf(r, p.names)
	if err != nil {
		return err
	}
	units, err := s.units(r.Context(), p, names)
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, UnitPage{Units: units, Next: next})
	return nil
}

func (s *server) getUnit(w http.ResponseWriter, r *http.Request) error {
	p, err := s.records.read(r.Context())
	if err != nil {
		return err
	}
	name := r.PathValue("name")
	if _, known := p.Units[name]; !known {
		return errNoUnit(name)
	}
	units, err := s.units(r.Context(), p, []string{name})
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, units[0])
	return nil
}

func errNoUnit(name string) *Error {
	return refuse(http.StatusNotFound, "unit %s does not exist", name)
}

// units completes units with what their files say. A global one is on many machines and so on none.
func (s *server) units(ctx context.Context, p *picture, names []string) ([]Unit, error) {
	units := make([]Unit, len(names))
	file := func(name string) (string, string) { return name, p.Units[name].Record.File }
	err := each(ctx, &s.contents, names, file, func(i int, c content) {
		units[i] = p.unit(names[i])
		units[i].Options = c.options
		if c.global {
			units[i].CurrentState, units[i].MachineID = "", ""
		}
	})
	return units, err
}

// setUnit makes a unit, replaces its options, or changes its desired state.
func (s *server) setUnit(w http.ResponseWriter, r *http.Request) error {
	wanted, text, err := readUnit(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	has, known, err := s.optionsOf(ctx, wanted.Name)
	if err != nil {
		return err
	}
	change := api.Unit{Name: wanted.Name, Desired: wanted.DesiredState}
	status := http.StatusNoContent
	switch {
	case !known && text == nil:
		return errNothingToMake()
	case !known, text != nil && !slices.Equal(has, wanted.Options):
		change.Content, status = string(text), http.StatusCreated
	case wanted.DesiredState == "":
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

// readUnit is what a request wants, and the text of its unit file, nil without options.
func readUnit(r *http.Request) (Unit, []byte, error) {
	if err := checkContentType(r.Header); err != nil {
		return Unit{}, nil, err
	}
	var u Unit
	if err := decode(r, &u); err != nil {
		return u, nil, err
	}
	name := r.PathValue("name")
	if u.Name == "" {
		u.Name = name
	}
	if u.Name != name {
		return u, nil, badRequest("name in URL %q differs from unit name in request body %q", name, u.Name)
	}
	if err := unitfile.CheckName(name); err != nil {
		return u, nil, badRequest("%v", err)
	}
	switch u.DesiredState {
	case "", stateInactive:
	case stateLoaded, stateLaunched:
		if unitfile.IsTemplate(name) {
			return u, nil, badRequest("%s is a template: only its instances can be %s", name, u.DesiredState)
		}
	default:
		return u, nil, badRequest("there is no desired state %q; use inactive, loaded or launched", u.DesiredState)
	}
	if len(u.Options) == 0 {
		return u, nil, nil
	}
	text, options, err := fileOf(name, u.Options)
	u.Options = options
	return u, text, err
}

// checkContentType wants exactly one type, JSON, whatever its parameters.
func checkContentType(h http.Header) error {
	types := h.Values("Content-Type")
	if len(types) == 1 && (types[0] == "application/json" || strings.HasPrefix(types[0], "application/json;")) {
		return nil
	}
	return refuse(http.StatusUnsupportedMediaType, "the body must be application/json, and say so once")
}

// optionsOf reads the options of a unit. known tells whether there is one.
func (s *server) optionsOf(ctx context.Context, name string) (options []UnitOption, known bool, err error) {
	item, err := s.Store.Get(ctx, store.UnitKey(name))
	if err != nil || item.ModRevision == 0 {
		return nil, false, err
	}
	record, err := store.Unmarshal[store.UnitRecord](item.Value)
	if err != nil {
		return nil, true, err
	}
	c, err := s.contents.get(ctx, name, record.File)
	return c.options, true, err
}

func (s *server) deleteUnit(w http.ResponseWriter, r *http.Request) error {
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
