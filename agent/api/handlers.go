package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

func (s *Server) getStatus(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if r.URL.Query().Get("watch") != "" {
		return s.watchStatus(w, r)
	}
	status, err := s.Fleet.Status(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, status)
	return nil
}

func (s *Server) getUnits(w http.ResponseWriter, r *http.Request, _ Caller) error {
	units, err := s.Fleet.Units(r.Context())
	if err != nil {
		return err
	}
	if units == nil {
		units = []Unit{}
	}
	writeJSON(w, http.StatusOK, units)
	return nil
}

func (s *Server) getUnit(w http.ResponseWriter, r *http.Request, _ Caller) error {
	unit, err := s.Fleet.Unit(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, unit)
	return nil
}

func (s *Server) putUnit(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var unit Unit
	if err := readJSON(r, &unit); err != nil {
		return err
	}
	name := r.PathValue("name")
	if unit.Name != "" && unit.Name != name {
		return Errorf(http.StatusBadRequest, "send the unit under its own name", "the path says %s, the body %s",
			name, unit.Name)
	}
	unit.Name = name
	outcome, err := s.Admin.PutUnit(r.Context(), unit)
	if err != nil {
		return err
	}
	writeOutcome(w, outcome)
	return nil
}

func (s *Server) deleteUnit(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if err := s.Admin.DeleteUnit(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) getWhy(w http.ResponseWriter, r *http.Request, _ Caller) error {
	why, err := s.Fleet.Why(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, why)
	return nil
}

func (s *Server) getLogs(w http.ResponseWriter, r *http.Request, _ Caller) error {
	q := r.URL.Query()
	o := LogOptions{Host: q.Get("host"), Follow: q.Get("follow") != "", Lines: -1}
	if text := q.Get("lines"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			return Errorf(http.StatusBadRequest, "give a number, negative for all", "lines=%s is not a number", text)
		}
		o.Lines = n
	}
	o.Priority, o.Output = q.Get("priority"), q.Get("output")
	if text := q.Get("since"); text != "" {
		var err error
		if o.Since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return Errorf(http.StatusBadRequest, "write it as in RFC 3339: 2026-01-02T15:04:05Z", "since=%s is no time", text)
		}
	}
	out := &textStream{w: w, control: http.NewResponseController(w)}
	err := s.Fleet.Logs(r.Context(), r.PathValue("name"), o, out)
	if err != nil && !out.started {
		return err
	}
	if err != nil {
		s.Log.Debug("logs ended early", "unit", r.PathValue("name"), "err", err)
		panic(http.ErrAbortHandler) // the caller sees a broken stream, not a complete one
	}
	return out.start()
}

func (s *Server) postToken(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var req TokenRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	if err := s.Admin.AddToken(r.Context(), req); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) deleteHost(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if err := s.Admin.RemoveHost(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) putLabels(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var labels Labels
	if err := readJSON(r, &labels); err != nil {
		return err
	}
	outcome, err := s.Admin.SetLabels(r.Context(), r.PathValue("id"), labels.Labels)
	if err != nil {
		return err
	}
	writeOutcome(w, outcome)
	return nil
}

func (s *Server) patchLabels(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var patch LabelPatch
	if err := readJSON(r, &patch); err != nil {
		return err
	}
	outcome, err := s.Admin.PatchLabels(r.Context(), r.PathValue("id"), patch.Labels)
	if err != nil {
		return err
	}
	writeOutcome(w, outcome)
	return nil
}

func (s *Server) putOrder(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var order HostOrder
	if err := readJSON(r, &order); err != nil {
		return err
	}
	outcome, err := s.Admin.OrderHost(r.Context(), r.PathValue("id"), order)
	if err != nil {
		return err
	}
	writeOutcome(w, outcome)
	return nil
}

func (s *Server) postRenew(w http.ResponseWriter, r *http.Request, _ Caller) error {
	var req RenewRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	reply, err := s.Admin.Renew(r.Context(), req)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, reply)
	return nil
}

func (s *Server) postJoin(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if s.Join == nil {
		return errNotVoter()
	}
	s.Join.ServeHTTP(w, r)
	return nil
}

func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request, _ Caller) error {
	writeJSON(w, http.StatusOK, s.Fleet.Health())
	return nil
}

func (s *Server) fleetAPI(w http.ResponseWriter, r *http.Request, _ Caller) error {
	if s.FleetAPI == nil {
		return Errorf(http.StatusNotFound, hintVersions, "fleet's API is not served here")
	}
	s.FleetAPI.ServeHTTP(w, r)
	return nil
}

// readJSON reads exactly one value with no unknown fields.
func readJSON(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		_, err = d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more than one value")
	}
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return Errorf(http.StatusRequestEntityTooLarge, "make it smaller", "the request has more than %d bytes",
			tooLong.Limit)
	}
	return Errorf(http.StatusBadRequest, hintVersions, "cannot read the request: %v", err)
}

func writeOutcome(w http.ResponseWriter, o Outcome) {
	switch o {
	case Created:
		w.WriteHeader(http.StatusCreated)
	case Changed:
		w.WriteHeader(http.StatusOK)
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}
