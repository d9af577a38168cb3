package installer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/musterhq/muster/providers/metal/enrol"
)

const chunkBytes = 1 << 20

// errImage is wrapped when asking again would give the same.
var errImage = errors.New("this is not the image")

// transfer is an image on its way to a disk.
type transfer struct {
	order  enrol.Order
	http   *http.Client
	stall  time.Duration
	disk   io.WriterAt
	report func(done int64) error
	sum    hash.Hash
	head   []byte // the first bytes, which are not on the disk yet
	done   int64
}

// download writes the image to the disk but for its head, which it returns, and checks the sum. What was fetched before the
// server went away is not fetched again.
func (cfg Config) download(ctx context.Context, order enrol.Order, disk io.WriterAt, report func(int64) error) ([]byte, error) {
	t := &transfer{
		order: order, http: cfg.Images, stall: cfg.Waits.Stall, disk: disk, report: report,
		sum: sha256.New(), head: make([]byte, 0, headBytes),
	}
	pause, idle := cfg.Waits.First, time.Duration(0)
	for t.done < order.Bytes {
		before := t.done
		err := t.fetch(ctx)
		if err == nil {
			continue
		}
		var refusal *enrol.Refusal
		if ctx.Err() != nil || errors.Is(err, errImage) || errors.Is(err, errDisk) || errors.As(err, &refusal) {
			return nil, err
		}
		if t.done > before {
			pause, idle = cfg.Waits.First, 0
		}
		if idle >= cfg.Waits.Patience {
			return nil, fmt.Errorf("cannot fetch the image: %w; %d of %d bytes came", err, t.done, order.Bytes)
		}
		cfg.Log.Warn("asking for the rest of the image", "error", err, "done", t.done, "in", pause)
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
		idle += pause
		pause = min(2*pause, cfg.Waits.Longest)
	}
	if got := hex.EncodeToString(t.sum.Sum(nil)); got != order.SHA256 {
		return nil, fmt.Errorf("cannot install %s: %w: its SHA-256 is %s, not %s", order.Image, errImage, got, order.SHA256)
	}
	return t.head, nil
}

// fetch asks for what is missing, and takes what comes.
func (t *transfer) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := time.AfterFunc(t.stall, cancel)
	defer stalled.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.order.Image, nil)
	if err != nil {
		return fmt.Errorf("cannot fetch the image: %w: %w", errImage, err)
	}
	if t.done > 0 {
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.done))
	}
	answer, err := t.http.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body := io.Reader(answer.Body)
	switch want := t.order.Bytes - t.done; {
	case answer.StatusCode == http.StatusOK && t.done > 0: // it knows no ranges
		t.done, t.head = 0, t.head[:0]
		t.sum.Reset()
	case answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusPartialContent:
		return fmt.Errorf("cannot fetch %s: %s", t.order.Image, answer.Status)
	case answer.ContentLength >= 0 && answer.ContentLength != want:
		return fmt.Errorf("cannot install %s: %w: it has %d bytes, not %d", t.order.Image, errImage, t.done+answer.ContentLength, t.order.Bytes)
	}
	chunk := make([]byte, chunkBytes)
	for t.done < t.order.Bytes {
		n, err := io.ReadFull(body, chunk[:min(chunkBytes, t.order.Bytes-t.done)])
		stalled.Reset(t.stall)
		if taken := t.take(chunk[:n]); taken != nil {
			return taken
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errDisk is wrapped when the disk does not take what is written.
var errDisk = errors.New("the disk fails")

// take hashes the next bytes of the image and puts them where they belong.
func (t *transfer) take(data []byte) error {
	t.sum.Write(data)
	at := t.done
	t.done += int64(len(data))
	if room := int64(headBytes - len(t.head)); room > 0 {
		part := data[:min(int64(len(data)), room)]
		t.head = append(t.head, part...)
		data, at = data[len(part):], at+int64(len(part))
	}
	if len(data) > 0 {
		if _, err := t.disk.WriteAt(data, at); err != nil {
			return fmt.Errorf("cannot write the image: %w: %w", errDisk, err)
		}
	}
	return t.report(t.done)
}

// verify reads what was written back, and sums it with the head that is not written yet.
func verify(disk io.ReaderAt, head []byte, order enrol.Order, report func(int64) error) error {
	sum := sha256.New()
	sum.Write(head)
	chunk := make([]byte, chunkBytes)
	for done := int64(len(head)); done < order.Bytes; {
		n, err := disk.ReadAt(chunk[:min(chunkBytes, order.Bytes-done)], done)
		if n == 0 && err != nil {
			return fmt.Errorf("cannot read it back: %w", err)
		}
		sum.Write(chunk[:n])
		done += int64(n)
		if err := report(done); err != nil {
			return err
		}
	}
	want, err := hex.DecodeString(order.SHA256)
	if err != nil || !bytes.Equal(sum.Sum(nil), want) {
		return errors.New("what was written reads back as something else")
	}
	return nil
}
