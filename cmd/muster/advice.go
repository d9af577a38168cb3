package main

import (
	"errors"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/state"
	"github.com/musterhq/muster/providers"
)

// advice says what to do about an error that came from below without a word of its own, "" for nothing to say.
func advice(err error) string {
	var answer *api.Error
	var locked *state.LockedError
	switch {
	case errors.As(err, &answer), errors.As(err, &locked):
		return "" // they say it themselves
	case errors.Is(err, providers.ErrAuth):
		return "check the provider's credentials in the cluster file; `muster providers check` tries them"
	case errors.Is(err, providers.ErrQuota):
		return "ask the provider for more, or muster fewer or smaller hosts; what is made is kept"
	case errors.Is(err, providers.ErrInvalid):
		return "correct the host's settings in the cluster file"
	case errors.Is(err, providers.ErrConflict):
		return "something that is not muster's has the name or address; remove it, or choose another in the cluster file"
	case errors.Is(err, providers.ErrThrottled), errors.Is(err, providers.ErrUnavailable):
		return "what is done is kept: run the same command again later"
	default:
		return ""
	}
}
