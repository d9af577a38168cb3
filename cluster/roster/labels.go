package roster

import (
	"maps"
	"slices"
)

// WithLabels is the host when the cluster file gives it these labels. They win over what was set while it ran under the
// same keys; what was set under others stays.
func (h Host) WithLabels(file map[string]string) Host {
	labels := maps.Clone(file)
	var kept []string
	for _, key := range h.RunLabels {
		if _, named := file[key]; named {
			continue
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[key] = h.Labels[key]
		kept = append(kept, key)
	}
	h.Labels, h.RunLabels = labels, kept
	return h
}

// WithPatch is the host when labels of it are set while it runs, and those without a value removed.
func (h Host) WithPatch(patch map[string]*string) Host {
	labels, set := maps.Clone(h.Labels), slices.Clone(h.RunLabels)
	if labels == nil {
		labels = map[string]string{}
	}
	for key, value := range patch {
		at, found := slices.BinarySearch(set, key)
		was, had := labels[key]
		switch {
		case value == nil:
			delete(labels, key)
			if found {
				set = slices.Delete(set, at, at+1)
			}
		case had && was == *value:
			// It is so already, whoever said so.
		default:
			labels[key] = *value
			if !found {
				set = slices.Insert(set, at, key)
			}
		}
	}
	h.Labels, h.RunLabels = labels, set
	return h
}
