package unitfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/unitfile"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"web.service":                         true,
		"web@.service":                        true,
		"web@1.service":                       true,
		`dev-disk-by\x2dlabel.mount`:          true,
		"a:b_c.d-e.socket":                    true,
		strings.Repeat("a", 248) + ".service": true,
		strings.Repeat("a", 249) + ".service": false,
		"":                                    false,
		"web":                                 false,
		"web.servic":                          false,
		".service":                            false,
		"@.service":                           false,
		"@1.service":                          false,
		"web@.mount":                          false,
		"web@1.mount":                         true,
		"we b.service":                        false,
		"../web.service":                      false,
		"wéb.service":                         false,
		"web.service\n":                       false,
		"web@{1..6}.service":                  false,
		"web.container":                       false,
		strings.Repeat("a", 1<<20) + "\x00.socket": false,
	} {
		if err := unitfile.CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%.40q) = %v, want ok = %v", name, err, ok)
		}
	}
}

func TestTemplate(t *testing.T) {
	for _, c := range []struct {
		name, template string
		instance       bool
		isTemplate     bool
	}{
		{"web@1.service", "web@.service", true, false},
		{"web@a@b.service", "web@.service", true, false},
		{"web@.service", "", false, true},
		{"web.service", "", false, false},
		{"web", "", false, false},
	} {
		template, ok := unitfile.Template(c.name)
		if template != c.template || ok != c.instance || unitfile.IsTemplate(c.name) != c.isTemplate {
			t.Errorf("%s: got %q, %v, template %v", c.name, template, ok, unitfile.IsTemplate(c.name))
		}
	}
	if got := unitfile.Instance("web@.service", "7"); got != "web@7.service" {
		t.Errorf("Instance gives %s", got)
	}
}

func TestExpand(t *testing.T) {
	host := unitfile.HostSpecifiers{MachineID: "0123", BootID: "4567", Hostname: "node-1.example"}
	for _, c := range []struct{ unit, in, want string }{
		{"web@1.service", "%n %N %p %i", "web@1.service web@1 web 1"},
		{"web.service", "%n %N %p [%i]", "web.service web web []"},
		{`a-b\x2dc@d-e\x2ff.service`, "%p %P %i %I %j %J", `a-b\x2dc a/b-c d-e\x2ff d/e/f b\x2dc b-c`},
		{"web.service", "%m %b %H %l", "0123 4567 node-1.example node-1"},
		{"web.service", "100%% %%n", "100% %n"},
		{"web.service", "nothing", "nothing"},
	} {
		if got, err := unitfile.Expand(c.in, c.unit, host); err != nil || got != c.want {
			t.Errorf("Expand(%q, %q) = %q, %v; want %q", c.in, c.unit, got, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"a %": "a lone % ends the text; write %% for a percent sign",
		"%é":  "specifier %é has no value here; write %% for a percent sign",
		"%t":  "specifier %t has no value here; write %% for a percent sign",
	} {
		if _, err := unitfile.Expand(in, "web.service", host); err == nil || err.Error() != want {
			t.Errorf("Expand(%q) fails with %v, want %s", in, err, want)
		}
	}
	if _, err := unitfile.Expand("%m", "web.service", unitfile.HostSpecifiers{}); err == nil {
		t.Error("an unknown host has a machine ID")
	}
}

func TestExpandBraces(t *testing.T) {
	for in, want := range map[string]string{
		"web.service":        "web.service",
		"web@{1..3}.service": "web@1.service web@2.service web@3.service",
		"web@{3..1}":         "web@3 web@2 web@1",
		"web@{08..11}":       "web@08 web@09 web@10 web@11",
		"{a,b}{1..2}":        "a1 a2 b1 b2",
		"{a,{b,c}d}":         "a bd cd",
		"{a,}x":              "ax x",
		"{a{1..2},b}.x":      "a1.x a2.x b.x",
		"":                   "",
		"a,b..c":             "a,b..c",
	} {
		got, err := unitfile.ExpandBraces(in)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("ExpandBraces(%q) = %q, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"web@{1..6.service":        `in "web@{1..6.service": the brace is never closed`,
		"web@1..6}":                `in "web@1..6}": a closing brace has no opening one`,
		"{a}":                      `in "{a}": {a} is neither a list nor a range of numbers; write {a,b} or {1..6}`,
		"{1..x}":                   `in "{1..x}": {1..x} is neither a list nor a range of numbers; write {a,b} or {1..6}`,
		"{1..10001}":               `in "{1..10001}": the pattern makes more than 10000 names`,
		"{1..200}{1..200}":         `in "{1..200}{1..200}": the pattern makes more than 10000 names`,
		"{a,{1..6000},{1..6000}}":  `in "{a,{1..6000},{1..6000}}": the pattern makes more than 10000 names`,
		"{0..9223372036854775807}": `in "{0..9223372036854775807}": the pattern makes more than 10000 names`,
		strings.Repeat("{", 20):    `in "{{{{{{{{{{{{{{{{{{{{": braces nest too deep`,
		strings.Repeat("a", 1025):  `the pattern has 1025 bytes, more than 1024`,
	} {
		if _, err := unitfile.ExpandBraces(in); err == nil || err.Error() != want {
			t.Errorf("ExpandBraces(%.40q) fails with\n%v, want\n%s", in, err, want)
		}
	}
	if got, err := unitfile.ExpandBraces("{1..10000}"); err != nil || len(got) != unitfile.MaxExpansion {
		t.Errorf("the greatest range gives %d names, %v", len(got), err)
	}
}

func TestRequirements(t *testing.T) {
	for _, c := range []struct {
		name, unit, text string
		want             unitfile.Requirements
	}{
		{name: "none", unit: "a.service"},
		{
			name: "first machine wins, in any spelling", unit: "a.service",
			text: "MachineID=01234567-89AB-cdef-0123-456789abcdef\nMachineID=11111111\n",
			want: unitfile.Requirements{MachineID: "0123456789abcdef0123456789abcdef"},
		},
		{
			name: "specifiers", unit: "web@3.service", text: "MachineOf=db@%i.service\nConflicts=%p@*.service other.service\n",
			want: unitfile.Requirements{
				MachineOf: []string{"db@3.service"}, Conflicts: []string{"web@*.service", "other.service"},
			},
		},
		{
			name: "labels over lines", unit: "a.service",
			text: "MachineMetadata=\"region=us\" \"region=eu\"\nMachineMetadata=disk=ssd\nMachineMetadata=region=us\n",
			want: unitfile.Requirements{Metadata: map[string][]string{"region": {"us", "eu"}, "disk": {"ssd"}}},
		},
		{
			name: "the last Global wins", unit: "a.service", text: "Global=yes\nMachineMetadata=a=b\nGlobal=off\nGlobal=T\n",
			want: unitfile.Requirements{Global: true, Metadata: map[string][]string{"a": {"b"}}},
		},
		{name: "not global after all", unit: "a.service", text: "Global=yes\nGlobal=no\nMachineOf=b.service\n", want: unitfile.Requirements{
			MachineOf: []string{"b.service"},
		}},
		{
			name: "deprecated spellings", unit: "a.service",
			text: "X-ConditionMachineOf=b.service\nX-Conflicts=c.service\nX-ConditionMachineMetadata=a=b\n",
			want: unitfile.Requirements{
				MachineOf: []string{"b.service"}, Conflicts: []string{"c.service"}, Metadata: map[string][]string{"a": {"b"}},
			},
		},
		{name: "boot ID", unit: "a.service", text: "X-ConditionMachineBootID=01234567\n", want: unitfile.Requirements{
			MachineID: "01234567",
		}},
		{name: "replaces", unit: "new@2.service", text: "Replaces=old@%i.service\nReplaces=older@*.service\n", want: unitfile.Requirements{
			Replaces: []string{"old@2.service", "older@*.service"},
		}},
		{name: "template", unit: "web@.service", text: "MachineOf=db@%i.service\n", want: unitfile.Requirements{
			MachineOf: []string{"db@.service"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := parse(t, c.unit, "[Service]\nExecStart=/bin/true\n[X-Fleet]\n"+c.text)
			got, findings := f.Requirements(c.unit)
			if diff := cmp.Diff(c.want, got); diff != "" || len(findings) > 0 {
				t.Errorf("findings %v, (-want +got)\n%s", findings, diff)
			}
		})
	}
}
