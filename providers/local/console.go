package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/musterhq/muster/providers"
)

// consolePause is the time between two looks at a console that is followed.
const consolePause = 200 * time.Millisecond

// Console writes a container's console, or what the musterd of a host without one has logged.
func (p *Provider) Console(ctx context.Context, instance providers.Instance, follow bool, w io.Writer) error {
	h, found, err := p.find(instance.Identity)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("it has no directory in %s: %w", p.root, providers.ErrNotFound)
	}
	f, err := os.Open(h.logPath())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("it has not said anything yet: %w", providers.ErrNotFound)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		_, there, err := p.find(instance.Identity) // before the last look, so that the end is not missed
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, f); err != nil || !follow || !there {
			return err
		}
		if err := providers.Pause(ctx, consolePause); err != nil {
			return err
		}
	}
}
