package process

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/musterhq/muster/agent/unitfile"
)

// definition is a unit's contents, read and with specifiers expanded.
type definition struct {
	contents
	service unitfile.Service
	strict  bool   // Singleton=strict
	problem string // why it cannot be run here, "" when it can
}

// known is false before the first contents were loaded.
func (d definition) known() bool { return d.Text != "" || d.problem != "" }

// define reads contents. It never fails: what cannot be run has a problem.
func define(name string, c contents, host unitfile.HostSpecifiers) definition {
	d := definition{contents: c}
	if kind := filepath.Ext(name); kind != ".service" {
		d.problem = "a " + kind + " needs systemd, and this host runs units as plain processes, which only a .service can be: " +
			"give it hosts with systemd (MachineMetadata=)"
		return d
	}
	f, _, err := unitfile.Parse(name, []byte(c.Text))
	if err != nil {
		d.problem = err.Error()
		return d
	}
	d.strict = f.Muster(name).Strict
	d.service, err = f.Service(name)
	if err == nil {
		d.service, err = expand(d.service, name, host)
	}
	if err == nil {
		err = supported(d.service)
	}
	if err != nil {
		d.problem = err.Error()
	}
	return d
}

func expand(s unitfile.Service, name string, host unitfile.HostSpecifiers) (unitfile.Service, error) {
	var errs []error
	text := func(p *string) {
		expanded, err := unitfile.Expand(*p, name, host)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot expand %q: %w", *p, err))
		}
		*p = expanded
	}
	e := &s.Exec
	for _, lines := range []*[]unitfile.Command{&e.StartPre, &e.Start, &e.StartPost, &e.Reload, &e.Stop, &e.StopPost} {
		for i, c := range *lines {
			expanded, err := c.Expand(name, host)
			errs = append(errs, err)
			(*lines)[i] = expanded
		}
	}
	p := &s.Process
	for i := range p.Environment {
		text(&p.Environment[i])
	}
	for i := range p.EnvironmentFiles {
		text(&p.EnvironmentFiles[i].Path)
	}
	text(&p.WorkingDirectory.Path)
	text(&p.User)
	text(&p.Group)
	return s, errors.Join(errs...)
}

// supported says what needs systemd.
func supported(s unitfile.Service) error {
	switch s.Type {
	case "simple", "exec", "idle", "oneshot":
	case "notify":
		if runtime.GOOS != "linux" {
			return errors.New("a service of Type=notify needs Linux; use Type=simple")
		}
	default:
		return fmt.Errorf("a service of Type=%s needs systemd; use Type=simple and let the program stay in the foreground", s.Type)
	}
	e := s.Exec
	for _, c := range slices.Concat(e.StartPre, e.Start, e.StartPost, e.Reload, e.Stop, e.StopPost) {
		if c.Argv0 != "" && c.Argv0 != c.Path {
			return fmt.Errorf("@ in front of %s needs systemd: a plain process is named by its path", c.Path)
		}
	}
	_, err := credential(s.Process)
	return err
}

// credential is whose rights the processes have, nil for the agent's own.
func credential(p unitfile.Process) (*syscall.Credential, error) {
	if p.User == "" && p.Group == "" {
		return nil, nil
	}
	uid, gid, groups := os.Geteuid(), os.Getegid(), []uint32(nil)
	if p.User != "" {
		u, err := lookupUser(p.User)
		if err != nil {
			return nil, fmt.Errorf("cannot find User=%s: %w", p.User, err)
		}
		uid, gid = number(u.Uid), number(u.Gid)
		if ids, err := u.GroupIds(); err == nil {
			for _, id := range ids {
				groups = append(groups, uint32(number(id)))
			}
		}
	}
	if p.Group != "" {
		g, err := user.LookupGroup(p.Group)
		if err != nil {
			if g, err = user.LookupGroupId(p.Group); err != nil {
				return nil, fmt.Errorf("cannot find Group=%s: %w", p.Group, err)
			}
		}
		gid = number(g.Gid)
	}
	if uid == os.Geteuid() && gid == os.Getegid() {
		return nil, nil
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("settings User=%s and Group=%s need an agent that runs as root", p.User, p.Group)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), Groups: groups}, nil
}

func lookupUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return user.LookupId(name)
	}
	return u, nil
}

// number reads an ID of a user or group, which are numbers on every Unix.
func number(id string) int {
	n, _ := strconv.Atoi(id)
	return n
}

// prepare resolves what the next command of a unit runs with.
func (u *unit) prepare(c unitfile.Command, control bool) (command, error) {
	s := u.current.service
	path, err := u.executable(c.Path)
	if err != nil {
		return command{}, err
	}
	env, err := u.rt.config.environment(u.name, s.Process)
	if err != nil {
		return command{}, err
	}
	if control {
		assign(env, u.record.tellings())
	}
	if s.Type == "notify" && !control {
		env["NOTIFY_SOCKET"] = u.notifyAddress()
	}
	cmd := command{env: assignments(env), record: !control && u.record.Index == 0}
	if !c.Privileged {
		if cmd.user, err = credential(s.Process); err != nil {
			return command{}, err
		}
	}
	if cmd.dir, err = directory(s.Process.WorkingDirectory, env["HOME"]); err != nil {
		return command{}, err
	}
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	cmd.argv = append([]string{path}, c.Arguments(lookup)...)
	return cmd, nil
}

// executable finds a program. Names without a slash are searched in the configured path, as systemd does.
func (u *unit) executable(name string) (string, error) {
	if strings.Contains(name, "/") {
		if err := checkExecutable(name); err != nil {
			return "", fmt.Errorf("cannot execute %s: %w", name, err)
		}
		return name, nil
	}
	for _, dir := range filepath.SplitList(u.rt.config.Path) {
		path := filepath.Join(dir, name)
		if filepath.IsAbs(path) && checkExecutable(path) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot execute %s: not found in %s", name, u.rt.config.Path)
}

func checkExecutable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return errors.Unwrap(err)
	case info.IsDir():
		return errors.New("it is a directory")
	case info.Mode()&0o111 == 0:
		return fs.ErrPermission
	}
	return nil
}

func directory(d unitfile.OptionalPath, home string) (string, error) {
	switch {
	case d.Path == "":
		return "/", nil
	case d.Path == "~" && home != "":
		d.Path = home
	case d.Path == "~":
		return "", errors.New("cannot change to the home directory: there is none; set User= or HOME")
	}
	if info, err := os.Stat(d.Path); err != nil || !info.IsDir() {
		if d.Optional {
			return "/", nil
		}
		return "", fmt.Errorf("cannot change to directory %s: there is none", d.Path)
	}
	return d.Path, nil
}

// environment gathers the variables of a unit's processes, later ones win (systemd.exec(5), "Environment variables").
func (c Config) environment(name string, p unitfile.Process) (map[string]string, error) {
	env := map[string]string{"PATH": c.Path}
	set := func(assignments []string) { assign(env, assignments) }
	set(c.Env)
	if p.User != "" {
		if account, err := lookupUser(p.User); err == nil {
			set([]string{"USER=" + account.Username, "LOGNAME=" + account.Username, "HOME=" + account.HomeDir})
		}
	}
	set(p.Environment)
	for _, f := range p.EnvironmentFiles {
		data, err := os.ReadFile(f.Path)
		if errors.Is(err, fs.ErrNotExist) && f.Optional {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the environment: %w", err)
		}
		set(unitfile.ParseEnvironmentFile(data))
	}
	env[unitMark], env[instanceMark] = name, c.Instance
	return env, nil
}

func assign(env map[string]string, assignments []string) {
	for _, a := range assignments {
		if name, value, ok := strings.Cut(a, "="); ok {
			env[name] = value
		}
	}
}

// tellings say to control processes how the unit is (systemd.exec(5)).
func (r record) tellings() []string {
	var env []string
	if r.mainRuns() {
		env = append(env, "MAINPID="+strconv.Itoa(r.Main.PID))
	}
	if active[r.Phase] != "deactivating" {
		return env
	}
	word := string(r.Result.Kind)
	if r.Result.Kind == success {
		word = "success"
	}
	env = append(env, "SERVICE_RESULT="+word)
	if e := r.MainExit; e != nil {
		code, status := "exited", strconv.Itoa(e.Code)
		switch {
		case e.Core:
			code, status = "dumped", strings.TrimPrefix(e.Signal, "SIG")
		case e.Signal != "":
			code, status = "killed", strings.TrimPrefix(e.Signal, "SIG")
		}
		env = append(env, "EXIT_CODE="+code, "EXIT_STATUS="+status)
	}
	return env
}

func assignments(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}
