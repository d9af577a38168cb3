package fleetapi

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"

	"github.com/musterhq/muster/agent/fleet"
	"github.com/musterhq/muster/cluster/store"
)

func (s *Server) listMachines(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	v, err := fleet.Load(ctx, s.Store, []string{store.PrefixAlive, store.PrefixRoster}, false)
	if err != nil {
		return err
	}
	page, next, err := pageOf(r, machines(v))
	if err != nil {
		return err
	}
	s.write(w, http.StatusOK, MachinePage{Machines: page, Next: next})
	return nil
}

// patchMachines changes metadata of machines. Every machine is changed at once or not at all.
func (s *Server) patchMachines(w http.ResponseWriter, r *http.Request) error {
	var operations []operation
	if err := decode(r, &operations); err != nil {
		return err
	}
	patches, err := patchesOf(operations)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), changeTimeout)
	defer cancel()
	ids := slices.Sorted(maps.Keys(patches))
	for _, id := range ids {
		item, err := s.Store.Get(ctx, store.RosterKey(id))
		if err != nil {
			return err
		}
		if item.ModRevision == 0 {
			return refuse(http.StatusNotFound, "machine %s does not exist", id)
		}
	}
	for _, id := range ids {
		if _, err := s.Changes.PatchLabels(ctx, id, patches[id]); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// operation is one of a JSON patch (RFC 6902).
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// metadataPath is where metadata is in the document that is patched: a machine's ID and a key.
var metadataPath = regexp.MustCompile(`^/([^/]+)/metadata/([A-Za-z0-9_.-]+)$`)

// patchesOf turns operations into the labels to set and, without a value, to remove, by machine. Later ones win.
func patchesOf(operations []operation) (map[string]map[string]*string, error) {
	patches := map[string]map[string]*string{}
	for _, o := range operations {
		match := metadataPath.FindStringSubmatch(o.Path)
		if match == nil {
			return nil, badRequest("path %q is not /MACHINE/metadata/KEY", o.Path)
		}
		id, key := match[1], match[2]
		if key == "provider" || key == "host" {
			return nil, badRequest("%s is decided where the machine is made and cannot be changed", key)
		}
		var value *string
		switch o.Op {
		case "add", "replace":
			text, err := o.text()
			if err != nil {
				return nil, err
			}
			value = &text
		case "remove":
		default:
			return nil, badRequest("operation %q is none of add, replace and remove", o.Op)
		}
		if patches[id] == nil {
			patches[id] = map[string]*string{}
		}
		patches[id][key] = value
	}
	return patches, nil
}

// text is the operation's value: as RFC 6902 and fleet's documentation have it, "value": "x", or as the old server read
// it, "value": {"value": "x"}.
func (o operation) text() (string, error) {
	var plain string
	if err := json.Unmarshal(o.Value, &plain); err == nil && plain != "" {
		return plain, nil
	}
	var wrapped struct {
		Value string `json:"value"`
	}
	if bytes.HasPrefix(o.Value, []byte("{")) && json.Unmarshal(o.Value, &wrapped) == nil && wrapped.Value != "" {
		return wrapped.Value, nil
	}
	return "", badRequest("the value of %s is neither a text nor {\"value\": TEXT}, or empty", o.Path)
}
