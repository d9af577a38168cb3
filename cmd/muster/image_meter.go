package main

import (
	"fmt"

	"github.com/musterhq/muster/cluster/apply"
	"github.com/musterhq/muster/cmd/muster/progress"
)

// meter shows on standard error how far an image is, when a person sees it. Standard output is left to what comes of it.
type meter struct {
	cli      *cli
	image    string
	provider string           // "" while none has to do with it
	display  progress.Display // nil: nobody sees it
}

// newMeter makes a meter for an image. The caller closes it.
func (c *cli) newMeter(image, provider string) *meter {
	m := &meter{cli: c, image: image, provider: provider}
	if isTerminal(c.err) && canDraw() {
		m.display = progress.NewLive(progress.LiveOptions{Out: c.err, Color: c.color(c.err), Environ: environ(), Now: c.now})
	}
	return m
}

// begin begins something that is done with so many bytes, and returns what is to be told how many are done.
func (m *meter) begin(doing string, total int64) func(bytes int64) {
	shown := int64(-1)
	return func(bytes int64) {
		percent := int64(100)
		if total > 0 {
			percent = min(100, bytes*100/total)
		}
		if percent == shown {
			return
		}
		shown = percent
		m.report(fmt.Sprintf("%s, %d %% of %s", doing, percent, sizeText(total)), false)
	}
}

func (m *meter) report(text string, done bool) {
	if m.display == nil {
		return
	}
	m.display.Report(apply.Event{
		Time: m.cli.now(), Host: m.image, Provider: m.provider, Phase: "image", Message: text, Done: done,
	})
}

// close shows the end and gives the terminal back.
func (m *meter) close() {
	if m.display != nil {
		m.display.Close()
	}
}
