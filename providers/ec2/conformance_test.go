package ec2

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
	"github.com/musterhq/muster/providers/providertest"
)

// TestConformance runs the suite in accounts of every temper, with every kind of host.
func TestConformance(t *testing.T) {
	const late = 25 * time.Millisecond
	settings := map[string]*Settings{"Public": tiny(), "Private": tiny(private), "Elastic": tiny(elastic), "Spot": tiny(spot)}
	for name, options := range map[string]func() ec2test.Options{
		"NoFaults": func() ec2test.Options { return ec2test.Options{} },
		"SlowBoot": func() ec2test.Options {
			return ec2test.Options{BootTime: 30 * time.Millisecond, EndTime: 20 * time.Millisecond}
		},
		"LateLists": func() ec2test.Options {
			return ec2test.Options{Hidden: late, Lag: 20 * time.Millisecond, BootTime: 10 * time.Millisecond}
		},
		"LateCalls":   func() ec2test.Options { return ec2test.Options{Hidden: late, HideCalls: true} },
		"LostAnswers": func() ec2test.Options { return ec2test.Options{Faults: everyWrite(2, ec2test.Fault{Lost: true})} },
		"LateAndLost": func() ec2test.Options {
			return ec2test.Options{Hidden: late, Faults: everyWrite(2, ec2test.Fault{Lost: true})}
		},
		"TimeOut": func() ec2test.Options {
			return ec2test.Options{Faults: everyWrite(2, ec2test.Fault{After: "RequestTimeout"})}
		},
		"Throttled": func() ec2test.Options {
			return ec2test.Options{Faults: some(5, ec2test.Fault{Code: "RequestLimitExceeded"})}
		},
		"Broken":     func() ec2test.Options { return ec2test.Options{Faults: some(6, ec2test.Fault{Code: "InternalError"})} },
		"SmallPages": func() ec2test.Options { return ec2test.Options{MaxPage: 2, EndedAnswers: true} },
		"Everything": func() ec2test.Options {
			return ec2test.Options{
				Hidden: late, HideCalls: true, Lag: 10 * time.Millisecond, BootTime: 10 * time.Millisecond, EndTime: 10 * time.Millisecond,
				MaxPage: 2, Faults: mixed(),
			}
		},
	} {
		for kind, s := range settings {
			if !long && name+kind != "EverythingElastic" && name+kind != "LateAndLostPublic" && name != "NoFaults" {
				continue // of `make lab-ec2`
			}
			t.Run(name+kind, func(t *testing.T) {
				t.Parallel()
				providertest.Run(t, fixture(options, "run", s))
			})
		}
	}
}

// TestConformanceOfCrashes ends a create after each of its steps.
func TestConformanceOfCrashes(t *testing.T) {
	hidden := func() ec2test.Options {
		return ec2test.Options{Hidden: 25 * time.Millisecond, BootTime: 5 * time.Millisecond}
	}
	for _, step := range []string{"group", "allocated", "recorded", "run", "associated"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			providertest.RunCrash(t, fixture(hidden, step, tiny(elastic)))
		})
	}
}

// some lets a fault befall one call in n, by chance that is the same in every run: faults in a fixed rhythm would keep
// a clean-up of more calls than that from ever getting through.
func some(n int, fault ec2test.Fault) func(ec2test.Call) ec2test.Fault {
	dice := rand.New(rand.NewPCG(uint64(n), 1))
	return func(ec2test.Call) ec2test.Fault {
		if dice.IntN(n) != 0 {
			return ec2test.Fault{}
		}
		return fault
	}
}

// everyWrite lets a fault befall the first and then each nth call that is not a describe.
func everyWrite(n int, fault ec2test.Fault) func(ec2test.Call) ec2test.Fault {
	writes := 0
	return func(c ec2test.Call) ec2test.Fault {
		if strings.HasPrefix(c.Action, "Describe") {
			return ec2test.Fault{}
		}
		if writes++; writes%n != 1 {
			return ec2test.Fault{}
		}
		return fault
	}
}

func mixed() func(ec2test.Call) ec2test.Fault {
	lost := everyWrite(3, ec2test.Fault{Lost: true})
	throttled, broken := some(9, ec2test.Fault{Code: "RequestLimitExceeded"}), some(12, ec2test.Fault{Code: "Unavailable"})
	return func(c ec2test.Call) ec2test.Fault {
		for _, policy := range []func(ec2test.Call) ec2test.Fault{throttled, broken} {
			if fault := policy(c); fault != (ec2test.Fault{}) {
				return fault
			}
		}
		return lost(c)
	}
}

func fixture(options func() ec2test.Options, crashAfter string, s *Settings) providertest.Factory {
	return func(t *testing.T) providertest.Fixture {
		o := options()
		a := newAccount(t, o)
		f := providertest.Fixture{
			Provider:  patient(a.open(t)),
			Settings:  s,
			Reopen:    func(t *testing.T) providers.Provider { return patient(a.open(t)) },
			Plant:     a.plant,
			Crash:     func(t *testing.T, req providers.CreateRequest) { a.crash(t, crashAfter, req) },
			Leftovers: func(_ *testing.T, cluster string) []string { return a.leftovers(cluster) },
			Settle:    o.Hidden + o.Lag,

			Unstoppable: s.Spot,
		}
		if o.Faults == nil && o.Hidden == 0 {
			f.Errors = errorCases(a)
		}
		// A public address is another one after a stop, and a spot instance cannot be stopped.
		if s.Address != addressPublic && !s.Spot {
			f.Stop = a.stop
		}
		return f
	}
}

func errorCases(a *account) []providertest.ErrorCase {
	create := func(change func(*Settings)) func(t *testing.T) error {
		return func(t *testing.T) error {
			req := request("web-9", tiny(change))
			req.Cluster = uuid.NewString()
			_, err := patient(a.open(t)).Create(t.Context(), req)
			return err
		}
	}
	list := func(change func(*Config)) func(t *testing.T) error {
		return func(t *testing.T) error {
			_, err := patient(a.open(t, change)).List(t.Context(), cluster)
			return err
		}
	}
	return []providertest.ErrorCase{
		{Name: "no such image", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image.ID = "ami-00000000000000099" })},
		{Name: "no such image name", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image.ID, s.Image.Name = "", "small-*" })},
		{Name: "no such parameter", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Image.ID, s.Image.Parameter = "", "/x" })},
		{Name: "no such key", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Key = "nobody" })},
		{Name: "no such subnet", Want: providers.ErrNotFound, Call: create(func(s *Settings) { s.Subnets = []string{"subnet-0000000000000abcd"} })},
		{Name: "no such type", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.Type = "x9.tiny" })},
		{Name: "type of another architecture", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.Type = "m7g.large" })},
		{Name: "root too small", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.Root.Size = 1 << 30 })},
		{Name: "no image", Want: providers.ErrInvalid, Call: create(func(s *Settings) { s.Image.ID = "" })},
		{Name: "wrong credentials", Want: providers.ErrAuth, Call: list(func(c *Config) { c.AccessKeyID = "AKIDNOBODY" })},
		{Name: "wrong region", Want: providers.ErrAuth, Call: list(func(c *Config) { c.Region = "us-test-2" })},
		{Name: "start of what is gone", Want: providers.ErrNotFound, Call: func(t *testing.T) error {
			return providers.Start(t.Context(), patient(a.open(t)), providers.Instance{Identity: request("web-9", nil).Identity, ID: "i-0"})
		}},
		{Name: "nobody listens", Want: providers.ErrUnavailable, Call: func(t *testing.T) error {
			_, err := a.open(t, func(c *Config) { c.Endpoint = "http://127.0.0.1:1" }).List(t.Context(), cluster)
			return err
		}},
	}
}
