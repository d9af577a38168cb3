package main

import (
	"context"
	"io"

	"github.com/musterhq/muster/agent/api"
)

// fakeFleet is a cluster that shows the statuses it was given, one after the other, and then nothing more happens.
type fakeFleet struct {
	fleet
	statuses []api.Status
}

func (f *fakeFleet) WatchStatus(ctx context.Context, yield func(api.Status) bool) error {
	for _, s := range f.statuses {
		if !yield(s) {
			return nil
		}
	}
	<-ctx.Done()
	return io.ErrUnexpectedEOF
}
