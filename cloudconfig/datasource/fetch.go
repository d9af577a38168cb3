package datasource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// errNotFound is a 404: the server is there, the page is not.
var errNotFound = errors.New("404 Not Found")

// statusError is an answer that asking again will not change.
type statusError struct{ code int }

func (e *statusError) Error() string { return fmt.Sprintf("%d %s", e.code, http.StatusText(e.code)) }

const (
	firstPause = 250 * time.Millisecond
	lastPause  = 4 * time.Second
)

// get fetches a page, again and again while the network or the server is not ready, until ctx ends.
func get(ctx context.Context, client *http.Client, method, url string, header http.Header, limit int64) ([]byte, error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		data, err := try(ctx, client, method, url, header, limit)
		var status *statusError
		if err == nil || errors.Is(err, errNotFound) || errors.As(err, &status) {
			return data, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-timer.C:
		}
	}
}

func try(ctx context.Context, client *http.Client, method, url string, header http.Header, limit int64) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch code := response.StatusCode; {
	case code == http.StatusNotFound:
		return nil, fmt.Errorf("cannot read %s: %w", url, errNotFound)
	case code == http.StatusTooManyRequests, code >= 500:
		return nil, fmt.Errorf("cannot read %s: %s", url, response.Status)
	case code != http.StatusOK:
		return nil, fmt.Errorf("cannot read %s: %w", url, &statusError{code})
	}
	data, err := readAll(response.Body, limit)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", url, err)
	}
	return data, nil
}
