package guard

import "time"

// Look is what a guard does at one moment: whether it kills, since it reads no other moment (held) or one that has passed,
// and how long it waits until it looks again.
func Look(until time.Duration, held bool, now time.Duration) (kill bool, wait time.Duration) {
	if wait = min(until-now, lookEvery); !held || wait <= 0 {
		return true, killEvery
	}
	return false, wait
}
