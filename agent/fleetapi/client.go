package fleetapi

import (
	"context"
	"net/url"
)

// Get asks for what is at a path below the API's base and decodes the answer (api.Client.Fleet).
type Get func(ctx context.Context, path string, into any) error

// AllUnits reads every page of units.
func AllUnits(ctx context.Context, get Get) ([]Unit, error) {
	return all(ctx, get, "units", func(p UnitPage) ([]Unit, string) { return p.Units, p.Next })
}

// AllStates reads every page of states.
func AllStates(ctx context.Context, get Get) ([]UnitState, error) {
	return all(ctx, get, "state", func(p UnitStatePage) ([]UnitState, string) { return p.States, p.Next })
}

// AllMachines reads every page of machines.
func AllMachines(ctx context.Context, get Get) ([]Machine, error) {
	return all(ctx, get, "machines", func(p MachinePage) ([]Machine, string) { return p.Machines, p.Next })
}

func all[P, T any](ctx context.Context, get Get, path string, part func(P) (items []T, next string)) ([]T, error) {
	items := []T{}
	for token := ""; ; {
		var page P
		query := url.Values{}
		if token != "" {
			query.Set("nextPageToken", token)
		}
		if err := get(ctx, path+"?"+query.Encode(), &page); err != nil {
			return nil, err
		}
		some, next := part(page)
		items = append(items, some...)
		if next == "" {
			return items, nil
		}
		token = next
	}
}
