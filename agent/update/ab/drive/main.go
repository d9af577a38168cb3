//go:build lab

// Command drive is what a guest of the lab runs instead of musterd: it does with the engine ab what a server on the lab's
// machine orders, and tells it what became of that. The firmware's serial number of the board is the server's address.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/musterhq/muster/agent/update"
	"github.com/musterhq/muster/agent/update/ab"
)

// order is what the server wants done.
type order struct {
	Do      string         `json:"do"` // wait, update, good, forget
	Release update.Release `json:"release"`
}

// report is what the server is told.
type report struct {
	Slots   update.Slots `json:"slots"`
	Done    string       `json:"done"` // the order that was carried out
	Seconds float64      `json:"seconds"`
	Error   string       `json:"error"`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	if err := run(ctx, log); err != nil {
		log.Error("the drive ends", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger) error {
	serial, err := os.ReadFile("/sys/class/dmi/id/board_serial")
	if err != nil {
		return err
	}
	server, engine := strings.TrimSpace(string(serial)), ab.New("/", ab.Command, log)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	last := report{}
	for {
		if next, err := exchange(ctx, server, engine, last); err != nil {
			log.Info("the server does not answer", "error", err)
		} else if next.Do != "wait" {
			started := time.Now()
			err := carryOut(ctx, server, engine, next)
			last = report{Done: next.Do, Seconds: time.Since(started).Seconds()}
			if err != nil {
				last.Error = err.Error()
			}
			log.Info("carried out", "order", next.Do, "version", next.Release.Version, "error", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// exchange tells the server what is, and hears what to do.
func exchange(ctx context.Context, server string, engine update.Engine, last report) (order, error) {
	slots, err := engine.Slots(ctx)
	last.Slots = slots
	if err != nil {
		last.Error = err.Error()
	}
	text, err := json.Marshal(last)
	if err != nil {
		return order{}, err
	}
	body, err := call(ctx, http.MethodPost, server+"/report", bytes.NewReader(text))
	if err != nil {
		return order{}, err
	}
	defer body.Close()
	var next order
	return next, json.NewDecoder(body).Decode(&next)
}

func call(ctx context.Context, method, url string, body io.Reader) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return answer.Body, nil
}

func carryOut(ctx context.Context, server string, engine update.Engine, o order) error {
	switch o.Do {
	case "good":
		return engine.Good(ctx)
	case "forget":
		return engine.Forget(ctx, o.Release.Version)
	case "update":
		if err := fetch(ctx, server, &o.Release); err != nil {
			return err
		}
		if err := engine.Stage(ctx, o.Release); err != nil {
			return err
		}
		if err := engine.Switch(ctx, o.Release.Version); err != nil {
			return err
		}
		return engine.Reboot(ctx)
	}
	return fmt.Errorf("no such order: %q", o.Do)
}

// fetch downloads a release's files and verifies them.
func fetch(ctx context.Context, server string, r *update.Release) error {
	const dir = "/var/lib/muster/update/download"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := range r.Files {
		f := &r.Files[i]
		f.Path = filepath.Join(dir, f.Name)
		if err := fetchFile(ctx, server+"/"+f.Name, *f); err != nil {
			return err
		}
	}
	return nil
}

func fetchFile(ctx context.Context, url string, f update.File) error {
	body, err := call(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.Create(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(file, sum), body); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%s has SHA-256 %s", url, got)
	}
	return file.Sync()
}
