package unitfile_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/unitfile"
	"github.com/musterhq/muster/cloudconfig/finding"
)

const service = "[Service]\nExecStart=/bin/true\n"

func TestMuster(t *testing.T) {
	for _, c := range []struct {
		name, unit, text string
		want             unitfile.Muster
		rules            unitfile.Requirements
	}{
		{name: "nothing", unit: "a.service"},
		{
			name: "replicas", unit: "web@.service", text: "Replicas=200000\nSpread=provider\n",
			want:  unitfile.Muster{Replicated: true, Replicas: 200000},
			rules: unitfile.Requirements{Spread: "provider"},
		},
		{name: "none of them", unit: "web@.service", text: "Replicas=0\n", want: unitfile.Muster{Replicated: true}},
		{name: "the last counts", unit: "web@.service", text: "Replicas=x\nReplicas=3\n", want: unitfile.Muster{Replicated: true, Replicas: 3}},
		{name: "an empty one forgets", unit: "web@.service", text: "Replicas=3\nSpread=host\nReplicas=\nSpread=\n"},
		{
			name: "an instance has the template's file", unit: "web@7.service", text: "Replicas=3\nSpread=rack\n",
			rules: unitfile.Requirements{Spread: "rack"},
		},
		{
			name: "reservations", unit: "a.service", text: "CPU=0.25\nMemory=512M\nPriority=-3\n",
			rules: unitfile.Requirements{MilliCPU: 250, Memory: 512 << 20, Priority: -3},
		},
		{
			name: "fractions", unit: "a.service", text: "CPU=16\nMemory=1.5G\nPriority=1000\n",
			rules: unitfile.Requirements{MilliCPU: 16000, Memory: 3 << 29, Priority: 1000},
		},
		{name: "bytes", unit: "a.service", text: "Memory=4096\nOnPartition=keep\n", rules: unitfile.Requirements{Memory: 4096}},
		{
			name: "strict", unit: "a.service", text: "Singleton=strict\nOnPartition=stop\n[Service]\nKillMode=mixed\n",
			want: unitfile.Muster{Strict: true, StopCutOff: true}, rules: unitfile.Requirements{Strict: true},
		},
		{
			name: "an instance that is strict", unit: "db@1.service", text: "Singleton=strict\nSpread=host\n",
			want: unitfile.Muster{Strict: true}, rules: unitfile.Requirements{Strict: true, Spread: "host"},
		},
		{
			name: "stop", unit: "a.service", text: "OnPartition=stop\n", want: unitfile.Muster{StopCutOff: true},
			rules: unitfile.Requirements{StopCutOff: true},
		},
		{
			name: "http", unit: "web@2.service", text: "HealthCheck=http://127.0.0.1:80%i/health\n",
			want: unitfile.Muster{HealthCheck: check("http", "http://127.0.0.1:802/health")},
		},
		{
			name: "tcp", unit: "a.service", text: "HealthCheck=tcp://[::1]:5432\n",
			want: unitfile.Muster{HealthCheck: check("tcp", "[::1]:5432")},
		},
		{
			name: "exec", unit: "a.service", text: "HealthCheck=exec:/bin/check --quick 'a b'\n",
			want: unitfile.Muster{HealthCheck: check("exec", "/bin/check --quick 'a b'")},
		},
		{
			name: "a container's own", unit: "a.service", text: "[Container]\nImage=a\nHealthCmd=test -e /ok\n",
			want: unitfile.Muster{HealthCheck: unitfile.HealthCheck{
				Kind: "container", Interval: 30 * time.Second, Timeout: 30 * time.Second, Retries: 3, StartPeriod: 30 * time.Second,
			}},
		},
		{
			name: "a container's own, and how often", unit: "a.service",
			text: "HealthAction=restart\nHealthTimeout=7s\n[Container]\nImage=a\nHealthCmd=test -e /ok\nHealthInterval=1m30s\n" +
				"HealthRetries=5\nHealthStartPeriod=10s\nHealthTimeout=2s\n",
			want: unitfile.Muster{HealthCheck: unitfile.HealthCheck{
				Kind: "container", Interval: 90 * time.Second, Timeout: 7 * time.Second, Retries: 5, StartPeriod: 100 * time.Second, Restart: true,
			}},
		},
		{name: "a container's own that nobody makes", unit: "a.service", text: "[Container]\nImage=a\nHealthCmd=none\n"},
		{
			name: "a container with a check of muster's", unit: "a.service", text: "HealthCheck=tcp://a:1\n[Container]\nImage=a\nHealthCmd=true\n",
			want: unitfile.Muster{HealthCheck: check("tcp", "a:1")},
		},
		{
			name: "when and how often", unit: "a.service",
			text: "HealthAction=restart\nHealthStartPeriod=0\nHealthRetries=1\nHealthTimeout=500ms\nHealthInterval=1min\nHealthCheck=tcp://a:1\n",
			want: unitfile.Muster{HealthCheck: unitfile.HealthCheck{
				Kind: "tcp", Target: "a:1", Interval: time.Minute, Timeout: 500 * time.Millisecond, Retries: 1, Restart: true,
			}},
		},
		{
			name: "updates", unit: "web@.service", text: "UpdateParallel=25%\nUpdateDelay=1min 30s\n",
			want: unitfile.Muster{UpdateParallel: unitfile.Share{Percent: 25}, UpdateDelay: 90 * time.Second},
		},
		{
			name: "one by one", unit: "a.service", text: "UpdateParallel=1\n",
			want: unitfile.Muster{UpdateParallel: unitfile.Share{Count: 1}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, warnings, err := unitfile.Parse(c.unit, []byte(service+"[X-Muster]\n"+c.text))
			if err != nil {
				t.Fatal(err)
			}
			rules, _ := f.Requirements(c.unit)
			if d := cmp.Diff(c.rules, rules) + cmp.Diff(c.want, f.Muster(c.unit)); d != "" {
				t.Error(d)
			}
			if len(warnings) > 0 {
				t.Errorf("warnings %v", warnings)
			}
		})
	}
}

// check is a health check with the defaults.
func check(kind, target string) unitfile.HealthCheck {
	return unitfile.HealthCheck{
		Kind: kind, Target: target, Interval: 10 * time.Second, Timeout: 5 * time.Second, Retries: 3, StartPeriod: 30 * time.Second,
	}
}

func TestMusterRefuses(t *testing.T) {
	for _, c := range []struct{ unit, text, message string }{
		{"web.service", "Replicas=3", "`Replicas`: only a template has replicas, and web.service is none"},
		{"web@.service", "Replicas=-1", "`Replicas`: \"-1\" is no number of instances"},
		{"web@.service", "Replicas=1000001", "`Replicas`: \"1000001\" is no number of instances"},
		{"web@.service", "Replicas=many", "`Replicas`: \"many\" is no number of instances"},
		{"web.service", "Spread=host", "`Spread`: it spreads the instances of a template, and web.service is none"},
		{"web@.service", "Spread=host provider", "`Spread`: \"host provider\" is no label"},
		{"a.service", "CPU=0", "`CPU`: \"0\" is no number of CPUs"},
		{"a.service", "CPU=500m", "`CPU`: \"500m\" is no number of CPUs"},
		{"a.service", "CPU=50%", "`CPU`: \"50%\" is no number of CPUs"},
		{"a.service", "CPU=0.0001", "`CPU`: \"0.0001\" is no number of CPUs"},
		{"a.service", "CPU=NaN", "`CPU`: \"NaN\" is no number of CPUs"},
		{"a.service", "CPU=1e3", "`CPU`: \"1e3\" is no number of CPUs"},
		{"a.service", "Memory=1GiB", "`Memory`: \"1GiB\" is no size"},
		{"a.service", "Memory=-1M", "`Memory`: \"-1M\" is no size"},
		{"a.service", "Memory=infinity", "`Memory`: \"infinity\" is no size"},
		{"a.service", "Memory=10%", "`Memory`: \"10%\" is no size"},
		{"a.service", "Priority=high", "`Priority`: \"high\" is no priority"},
		{"a.service", "Priority=1001", "`Priority`: \"1001\" is no priority"},
		{"a.socket", "Singleton=strict", "`Singleton`: only a service can be kept from running twice, and a.socket is none"},
		{"a.service", "Singleton=strict\nOnPartition=keep", "`OnPartition`=keep cannot stand beside `Singleton`"},
		{"a.service", "Singleton=strict\n[Service]\nPAMName=login", "`Singleton` cannot stand beside `PAMName`"},
		{"a.service", "Singleton=strict\n[Service]\nKillMode=process", "`Singleton` cannot stand beside `KillMode`=process"},
		{"a.service", "Singleton=strict\n[Service]\nSendSIGKILL=off", "`Singleton` cannot stand beside `SendSIGKILL`=off"},
		{"a.service", "Singleton=strict\n[X-Fleet]\nGlobal=yes", "`Singleton` cannot stand beside `Global`"},
		{"web@.service", "Singleton=strict\nReplicas=2", "`Singleton` cannot stand beside `Replicas`"},
		{"a.service", "Singleton=yes", "`Singleton`: \"yes\" is not known"},
		{"a.service", "OnPartition=flee", "`OnPartition`: \"flee\" is not known"},
		{"a.service", "HealthCheck=ftp://a", "`HealthCheck`: \"ftp://a\" is no check"},
		{"a.service", "HealthCheck=tcp://a", "`HealthCheck`: \"tcp://a\" is not tcp://HOST:PORT"},
		{"a.service", "HealthCheck=tcp://a:0", "`HealthCheck`: \"tcp://a:0\" is not tcp://HOST:PORT"},
		{"a.service", "HealthCheck=tcp://a:1/x", "`HealthCheck`: \"tcp://a:1/x\" is not tcp://HOST:PORT"},
		{"a.service", "HealthCheck=exec:check", "`HealthCheck`: \"check\" is no command with an absolute path"},
		{"a.service", "HealthCheck=http://%H/", "`HealthCheck`: specifier %H has no value here; write %% for a percent sign"},
		{"a.service", "HealthInterval=5s", "`HealthInterval`: there is no `HealthCheck` beside it"},
		{"a.service", "HealthInterval=1ms\nHealthCheck=tcp://a:1", "`HealthInterval`: \"1ms\" is too short, too long, or no time span"},
		{"a.service", "HealthTimeout=infinity\nHealthCheck=tcp://a:1", "`HealthTimeout`: \"infinity\" is too short, too long, or no time span"},
		{"a.service", "HealthRetries=0\nHealthCheck=tcp://a:1", "`HealthRetries`: \"0\" is no number of checks"},
		{"a.service", "HealthAction=kill\nHealthCheck=tcp://a:1", "`HealthAction`: \"kill\" is not known"},
		{"a.service", "UpdateParallel=0", "`UpdateParallel`: \"0\" is no number of instances"},
		{"a.service", "UpdateParallel=101%", "`UpdateParallel`: \"101%\" is no number of instances"},
		{"a.service", "UpdateDelay=soon", "`UpdateDelay`: \"soon\" is no time span; write one such as 90, 1min 30s or infinity"},
		{"web@.service", "Replicas=3\n[X-Fleet]\nGlobal=yes", "`Replicas` cannot stand beside `Global`"},
		{"web@.service", "Spread=host\n[X-Fleet]\nMachineID=01234567", "`Spread` cannot stand beside `MachineID`"},
		{"web@.service", "Spread=host\n[X-Fleet]\nMachineOf=a.service", "`Spread` cannot stand beside `MachineOf`"},
		{"a.service", "Priority=1\n[X-Fleet]\nGlobal=yes", "`Priority` cannot stand beside `Global`"},
		{
			"web@.service", "Replicas=10001\n[X-Fleet]\nMachineOf=db@%i.service",
			"there may be at most 10000 instances with rules of their own in [X-Fleet]",
		},
	} {
		_, _, err := unitfile.Parse(c.unit, []byte(service+"[X-Muster]\n"+c.text+"\n"))
		var findings finding.Findings
		if !errors.As(err, &findings) || len(findings) != 1 || findings[0].Message != c.message {
			t.Errorf("%s with %q is refused with\n%v, want\n%s", c.unit, c.text, err, c.message)
		} else if findings[0].Line != 4 && findings[0].Line != 5 {
			t.Errorf("%s with %q: the place is %v", c.unit, c.text, findings[0].Position)
		}
	}
}

func TestHasOwnRules(t *testing.T) {
	for text, want := range map[string]bool{
		"MachineOf=db@%i.service": true, "Conflicts=web@*.service": false, "MachineMetadata=share=50%%": false,
	} {
		if f := parse(t, "web@.service", service+"[X-Fleet]\n"+text+"\n"); f.HasOwnRules() != want {
			t.Errorf("%s: %v, want %v", text, !want, want)
		}
	}
}
