package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/musterhq/muster/agent/unitfile"
)

// unitArg is one unit that the operator named: by the path of its file, or by its name in the cluster.
type unitArg struct {
	name     string // with its type, "web@1.service"
	path     string // "" when no file of that name is here
	template string // path of the template's file, for an instance without a file of its own; "" when there is none
}

// unitArgs reads the arguments of the unit verbs that take files and names. Braces are expanded, so that quoted ones and
// those of shells that have none work too. An argument that is a file means that file; one with a folder must be a file.
func unitArgs(args []string) ([]unitArg, error) {
	var list []unitArg
	for _, arg := range args {
		expanded, err := unitfile.ExpandBraces(arg)
		if err != nil {
			return nil, usage("write web@{1..6}.service or {web,db}.service", "cannot expand `%s`: %w", arg, err)
		}
		for _, one := range expanded {
			unit, err := unitArgument(one)
			if err != nil {
				return nil, err
			}
			if !slices.ContainsFunc(list, func(u unitArg) bool { return u.name == unit.name }) {
				list = append(list, unit)
			}
		}
	}
	return list, nil
}

func unitArgument(arg string) (unitArg, error) {
	folder, base := filepath.Split(arg)
	file := fullName(base)
	unit := unitArg{name: unitfile.UnitName(file)}
	if err := unitfile.CheckName(unit.name); err != nil {
		return unit, usage("a unit's name ends in its type, like web.service or web@1.service", "cannot use `%s`: %w", arg, err)
	}
	var err error
	if unit.path, err = unitPath(folder, file); err != nil {
		return unit, err
	}
	if template, ok := unitfile.Template(file); ok && unit.path == "" {
		if unit.template, err = unitPath(folder, template); err != nil {
			return unit, err
		}
	}
	if folder != "" && unit.path == "" && unit.template == "" {
		return unit, usage("write the file; a unit that is in the cluster already is named without a folder", "no file `%s`", arg)
	}
	return unit, nil
}

// unitPath returns the path of a unit's file, "" when there is none. That of a service may be one of a container.
func unitPath(folder, name string) (string, error) {
	path, err := fileOf(filepath.Join(folder, name))
	if container, ok := unitfile.ContainerFile(name); ok && path == "" && err == nil {
		return fileOf(filepath.Join(folder, container))
	}
	return path, err
}

// fileOf returns name when it is a file, and "" when there is none.
func fileOf(name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", usage("make the file readable", "cannot read `%s`: %w", name, err)
	case info.IsDir():
		return "", usage("name the files in it", "`%s` is a folder", name)
	default:
		return name, nil
	}
}

// fullName adds ".service" to a name without a type, as fleetctl does.
func fullName(name string) string {
	if path.Ext(name) == "" {
		return name + ".service"
	}
	return name
}

// matchUnits turns the names and patterns that the operator wrote into names of units that the cluster knows. Patterns
// are those of path.Match. A plain name is taken as it is, so that the cluster can say that it does not exist.
func matchUnits(args, known []string) ([]string, error) {
	var names []string
	for _, arg := range args {
		expanded, err := unitfile.ExpandBraces(arg)
		if err != nil {
			return nil, usage("write web@{1..6}.service or {web,db}.service", "cannot expand `%s`: %w", arg, err)
		}
		for _, one := range expanded {
			matched, err := matchUnit(one, known)
			if err != nil {
				return nil, err
			}
			for _, name := range matched {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names, nil
}

func matchUnit(arg string, known []string) ([]string, error) {
	if !strings.ContainsAny(arg, "*?[") {
		name := unitfile.UnitName(fullName(path.Base(arg)))
		if err := unitfile.CheckName(name); err != nil {
			return nil, usage("a unit's name ends in its type, like web.service or web@1.service", "cannot use `%s`: %w", arg, err)
		}
		return []string{name}, nil
	}
	var matched []string
	for _, name := range known {
		ok, err := path.Match(arg, name)
		if err != nil {
			return nil, usage("patterns are those of a shell: web@*.service", "cannot use `%s`: %w", arg, err)
		}
		if ok {
			matched = append(matched, name)
		}
	}
	if len(matched) == 0 {
		return nil, failed("`muster units list` shows them", "no unit matches `%s`", arg)
	}
	return matched, nil
}

// hasPattern tells whether any argument has to be matched against what the cluster knows.
func hasPattern(args []string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.ContainsAny(arg, "*?[") })
}
