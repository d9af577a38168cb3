package ec2

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

// TestCallsPerHost bounds what 200 hosts at once cost in calls, from nothing to running and to nothing again. It logs how
// long they take beside one host: nobody waits for another.
func TestCallsPerHost(t *testing.T) {
	for name, tt := range map[string]struct {
		settings *Settings
		up, down float64 // calls per host, at most
	}{
		"Public":  {tiny(), 1.5, 1.5},
		"Elastic": {tiny(elastic), 4.5, 3.5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, hosts := range []int{1, 200} {
				up, down, took := raise(t, tt.settings, hosts)
				t.Logf("%d hosts: %d calls up, %d down, %v", hosts, up, down, took)
				if n := float64(hosts); hosts > 1 && (float64(up) > tt.up*n || float64(down) > tt.down*n) {
					t.Errorf("%d hosts took %d calls to make and %d to end", hosts, up, down)
				}
			}
		})
	}
}

// raise makes hosts all at once, waits until they run and ends them.
func raise(t *testing.T, s *Settings, hosts int) (up, down int, took [2]time.Duration) {
	t.Helper()
	a := newAccount(t, ec2test.Options{BootTime: 400 * time.Millisecond, EndTime: 400 * time.Millisecond, Latency: 20 * time.Millisecond})
	a.timing.look = 100 * time.Millisecond
	p := a.open(t)
	made := make([]providers.Instance, hosts)
	began := time.Now()
	each(made, func(i int) {
		var err error
		if made[i], err = p.Create(t.Context(), request(fmt.Sprintf("web-%d", i+1), s)); err != nil {
			t.Error(err)
		}
	})
	for {
		list, err := p.List(t.Context(), cluster)
		if err != nil || len(list) != hosts {
			t.Fatalf("%d hosts listed: %v", len(list), err)
		}
		if ready(list) {
			break
		}
		if err := providers.Pause(t.Context(), 100*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	took[0], up, began = time.Since(began), len(a.Calls()), time.Now()
	each(made, func(i int) {
		if err := p.Destroy(t.Context(), made[i]); err != nil {
			t.Error(err)
		}
	})
	if err := p.Cleanup(t.Context(), cluster); err != nil {
		t.Error(err)
	}
	took[1], down = time.Since(began), len(a.Calls())-up
	if left := a.leftovers(""); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return up, down, took
}

func each(all []providers.Instance, do func(i int)) {
	var group sync.WaitGroup
	for i := range all {
		group.Go(func() { do(i) })
	}
	group.Wait()
}

func ready(list []providers.Instance) bool {
	for _, i := range list {
		if i.State != providers.StateRunning || len(i.Addresses) == 0 {
			return false
		}
	}
	return true
}

// TestAccountIsThrottled makes hosts in an account whose rate is far below what is asked for: after the first refusals
// the driver keeps to the rate, and calls are not many more than hosts.
func TestAccountIsThrottled(t *testing.T) {
	const hosts = 60
	bucket := 5.0
	last := time.Now()
	a := newAccount(t, ec2test.Options{Faults: func(c ec2test.Call) ec2test.Fault {
		if c.Action != "RunInstances" {
			return ec2test.Fault{}
		}
		bucket, last = min(5, bucket+time.Since(last).Seconds()*100), time.Now()
		if bucket--; bucket < 0 {
			bucket = 0
			return ec2test.Fault{Code: "RequestLimitExceeded"}
		}
		return ec2test.Fault{}
	}})
	driver := a.open(t)
	driver.pace.rate = func(string) limit { return 80 }
	p := patient(driver)
	each(make([]providers.Instance, hosts), func(i int) {
		if _, err := p.Create(t.Context(), request(fmt.Sprintf("web-%d", i+1), tiny())); err != nil {
			t.Error(err)
		}
	})
	runs := 0
	for _, c := range a.Calls() {
		if strings.HasPrefix(c.Action, "RunInstances") {
			runs++
		}
	}
	if a.kinds()["instance"] != hosts || runs > 3*hosts {
		t.Errorf("%d calls for %d hosts, of which there are %v", runs, hosts, a.kinds())
	}
}
