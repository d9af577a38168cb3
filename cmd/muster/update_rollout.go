package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/agent/update"
)

// rolloutSum is how far hosts are with the newest release that any of them runs or takes, in a line with a bar; "" when all of
// them run the same and are at rest.
func rolloutSum(u api.Update) string {
	newest, busy := "", 0
	for _, h := range u.Hosts {
		for _, v := range []string{h.Version, h.Target} {
			if v != "" && (newest == "" || update.Compare(v, newest) > 0) {
				newest = v
			}
		}
		if h.Busy() {
			busy++
		}
	}
	phases := map[string]int{}
	there := 0
	for _, h := range u.Hosts {
		switch {
		case h.Busy():
			phases[h.Phase]++
		case update.Compare(h.Version, newest) == 0:
			there++
		}
	}
	if len(u.Hosts) == 0 || there == len(u.Hosts) {
		return ""
	}
	parts := []string{fmt.Sprintf("%d of %d hosts have release %s", there, len(u.Hosts), newest)}
	var names []string
	for phase := range phases {
		names = append(names, phase)
	}
	slices.Sort(names)
	for _, phase := range names {
		parts = append(parts, fmt.Sprintf("%d %s", phases[phase], phase))
	}
	if rest := len(u.Hosts) - there - busy; rest > 0 {
		parts = append(parts, fmt.Sprintf("%d have not begun", rest))
	}
	return bar(there, len(u.Hosts)) + " " + strings.Join(parts, ", ")
}

// barWidth is how many characters a bar has between its ends.
const barWidth = 20

func bar(done, of int) string {
	n := done * barWidth / of
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", barWidth-n) + "]"
}
