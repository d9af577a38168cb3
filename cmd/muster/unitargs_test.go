package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnitArgs(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{"units/web@.service", "units/db.service", "here.service", "units/box.container", "units/pod@.container"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want []unitArg
	}{
		{"name of a unit in the cluster", []string{"db.service"}, []unitArg{{name: "db.service"}}},
		{"without type", []string{"db", "web@1"}, []unitArg{{name: "db.service"}, {name: "web@1.service"}}},
		{"file by folder", []string{"units/db.service"}, []unitArg{{name: "db.service", path: "units/db.service"}}},
		{"file here", []string{"here.service"}, []unitArg{{name: "here.service", path: "here.service"}}},
		{
			"instances of a file's template",
			[]string{"units/web@{1..2}.service"},
			[]unitArg{{name: "web@1.service", template: "units/web@.service"}, {name: "web@2.service", template: "units/web@.service"}},
		},
		{"template", []string{"units/web@.service"}, []unitArg{{name: "web@.service", path: "units/web@.service"}}},
		{"the same twice", []string{"db", "db.service"}, []unitArg{{name: "db.service"}}},
		{"container", []string{"units/box.container"}, []unitArg{{name: "box.service", path: "units/box.container"}}},
		{"container by its service", []string{"units/box"}, []unitArg{{name: "box.service", path: "units/box.container"}}},
		{
			"instances of a container's template",
			[]string{"units/pod@1.container", "units/pod@2"},
			[]unitArg{{name: "pod@1.service", template: "units/pod@.container"}, {name: "pod@2.service", template: "units/pod@.container"}},
		},
		{"name of a container in the cluster", []string{"far.container"}, []unitArg{{name: "far.service"}}},
		{"list", []string{"{a,b}.timer"}, []unitArg{{name: "a.timer"}, {name: "b.timer"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := unitArgs(tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(unitArg{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnitArgsRefuses(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("folder.service", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, arg := range []string{"units/none.service", "web.exe", "data.volume", "units/none.container", "we b.service", "web@{1..service", "folder.service", "", "units/"} {
		_, err := unitArgs([]string{arg})
		f := (*failure)(nil)
		if !errors.As(err, &f) || f.status != statusUsage || f.hint == "" {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

func TestMatchUnits(t *testing.T) {
	known := []string{"db.service", "web@1.service", "web@2.service"}
	for _, tt := range []struct {
		args, want []string
	}{
		{[]string{"web@*"}, []string{"web@1.service", "web@2.service"}},
		{[]string{"web@?.service", "db"}, []string{"web@1.service", "web@2.service", "db.service"}},
		{[]string{"web@{2,1}"}, []string{"web@2.service", "web@1.service"}},
		{[]string{"nobody"}, []string{"nobody.service"}},
		{[]string{"db.container"}, []string{"db.service"}},
		{[]string{"web@1", "web@*"}, []string{"web@1.service", "web@2.service"}},
	} {
		got, err := matchUnits(tt.args, known)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v: %s", tt.args, diff)
		}
	}
	for _, arg := range []string{"none*", "[", "a/b*"} {
		if got, err := matchUnits([]string{arg}, known); err == nil {
			t.Errorf("%q: %v", arg, got)
		}
	}
}
