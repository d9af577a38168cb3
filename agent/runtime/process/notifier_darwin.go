package process

import "time"

// notifier stands in for inotify: whoever waits looks again after a while.
type notifier struct{}

func newNotifier() (*notifier, error) { return &notifier{}, nil }

// next returns a channel that is closed after pollInterval, and a function for those who stop waiting.
func (n *notifier) next(string) (<-chan struct{}, func(), error) {
	news := make(chan struct{})
	timer := time.AfterFunc(pollInterval, func() { close(news) })
	return news, func() { timer.Stop() }, nil
}

// Close has nothing to end.
func (n *notifier) Close() error { return nil }
