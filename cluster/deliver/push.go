package deliver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/providers"
)

// lookScript tells whether the first boot has written everything, what the host is, and which musterd it has.
const lookScript = `systemctl is-enabled --quiet ` + cloudconfig.UnitName + ` || { echo booting; exit; }
uname -m
[ ! -x "%[1]s" ] || sha256sum <"%[1]s"`

// installScript takes musterd from its input and moves it into place when the sum is right.
const installScript = `set -eu
mkdir -p "%[1]s"
trap "rm -f %[2]s.new" EXIT
cat >"%[2]s.new"
echo "%[3]s  %[2]s.new" | sha256sum -c - >/dev/null 2>&1 || { echo "what arrived is not the musterd that was sent" >&2; exit 1; }
chmod 0755 "%[2]s.new"
sync
mv "%[2]s.new" "%[2]s"
systemctl restart --no-block ` + cloudconfig.UnitName

// startScript has a musterd run that is there already.
const startScript = `systemctl start --no-block ` + cloudconfig.UnitName

var errBooting = errors.New("its first boot is not over: " + cloudconfig.UnitName + " is not enabled yet")

// maxRefusals is how often a host may refuse the login, or sudo, before it counts: a first boot may not have made the
// account yet when the SSH server answers.
const maxRefusals = 10

// Push brings musterd to a host that awaits it, and starts it there. It waits until the host's SSH server answers and its
// first boot has written what musterd needs, until ctx ends; the error is then the last thing that was wrong. What cannot
// become better by waiting is an error at once: a key that nobody vouches for (HostKeyError), a refused login, an
// architecture without a musterd.
func (d *Delivery) Push(ctx context.Context, provider string, i providers.Instance) error {
	l := d.logins[provider]
	if l == nil || len(i.Addresses) == 0 {
		return fmt.Errorf("cannot bring musterd to host %s: nothing is known of how to log in to it", i.Host)
	}
	p := push{Delivery: d, login: l, instance: i, console: d.config.Consoles[provider]}
	p.address = net.JoinHostPort(i.Addresses[0].Unmap().String(), strconv.Itoa(l.Port))
	pause := d.firstPause
	var last error
	for {
		err := p.try(ctx)
		if err != nil && ctx.Err() != nil && last != nil {
			err = last // what an attempt says that was cut short is not the host's word
		}
		last = err
		if err == nil || p.final(err) {
			return p.explain(err)
		}
		d.log.Debug("cannot bring musterd yet", "host", i.Host, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w (%w)", p.explain(err), context.Cause(ctx))
		case <-timer.C:
		}
		pause = min(3*time.Second, pause+pause/2)
	}
}

// push is one host that musterd is brought to.
type push struct {
	*Delivery
	login    *login
	instance providers.Instance
	console  providers.Consoler // nil when nobody keeps what the host says
	address  string
	refusals int
	shown    []ssh.PublicKey // on the console
	looked   time.Time       // at the console, last
}

func (p *push) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot bring musterd over SSH to %s@%s: %w", p.login.User, p.address, err)
}

// errNoMusterd says that there is no musterd for a host.
var errNoMusterd = errors.New("there is no musterd for it")

// final reports whether trying again is of no use.
func (p *push) final(err error) bool {
	var stranger *HostKeyError
	var refused *remoteError
	switch {
	case errors.As(err, &stranger), errors.Is(err, errNoKind):
		return p.console == nil || len(p.shown) > 0 // else it may still say who it is
	case errors.Is(err, errNoMusterd):
		return true
	case refusedLogin(err), errors.As(err, &refused):
		p.refusals++
		return p.refusals >= maxRefusals
	}
	return false
}

// try logs in, looks, and does what is left to do.
func (p *push) try(ctx context.Context) error {
	r, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	path := p.target
	seen, err := r.root(fmt.Sprintf(lookScript, path), nil)
	if err != nil {
		return err
	}
	machine, has, _ := strings.Cut(seen, "\n")
	if machine == "booting" {
		return errBooting
	}
	arch := cloudconfig.Architecture(machine)
	at := slices.IndexFunc(p.binaries, func(b Binary) bool { return b.Architecture == arch })
	if at < 0 {
		return fmt.Errorf("%w, an %q: put musterd-ARCH for it beside muster, and run `muster up` again", errNoMusterd, machine)
	}
	b := p.binaries[at]
	if strings.HasPrefix(has, b.SHA256) {
		_, err = r.root(startScript, nil)
		return err
	}
	return p.send(r, b)
}

func (p *push) send(r *remote, b Binary) error {
	f, err := os.Open(p.copies.path(b.SHA256))
	if err != nil {
		return err
	}
	defer f.Close()
	dir := p.target[:strings.LastIndexByte(p.target, '/')]
	_, err = r.root(fmt.Sprintf(installScript, dir, p.target, b.SHA256), f)
	return err
}

// connect logs in to the host, if it is the one that it should be.
func (p *push) connect(ctx context.Context) (*remote, error) {
	if err := p.readConsole(ctx); err != nil {
		p.log.Debug("cannot read the host's console", "host", p.instance.Host, "error", err)
	}
	to := net.TCPAddrFromAddrPort(addrPort(p.instance, p.login.Port))
	var last error
	for _, kinds := range p.login.keys.offers(p.address, to, p.shown) {
		r, err := dial(ctx, p.login, p.address, kinds, p.shown)
		var stranger *HostKeyError
		switch {
		case err == nil:
			return r, nil
		case noCommonKind(err):
			last = asNoKind(err)
		case errors.As(err, &stranger):
			last = err
		default:
			return nil, err
		}
	}
	return nil, last
}

// readConsole looks for the keys that the host prints, until it has. Clouds count such calls.
func (p *push) readConsole(ctx context.Context) error {
	if p.console == nil || len(p.shown) > 0 || time.Since(p.looked) < p.consolePause {
		return nil
	}
	p.looked = time.Now()
	var text bytes.Buffer
	err := p.console.Console(ctx, p.instance, false, &beginning{w: &text, left: maxConsole})
	if keys, readErr := keysOnConsole(&text); len(keys) > 0 {
		p.shown = keys
		return nil
	} else if err == nil {
		err = readErr
	}
	return err
}

// maxConsole bounds what is read of a console. Keys come at the first boot.
const maxConsole = 16 << 20

var errMuch = errors.New("more than 16 MiB")

// beginning refuses what is too much.
type beginning struct {
	w    io.Writer
	left int
}

func (b *beginning) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	if _, err := b.w.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, errMuch
	}
	return n, nil
}
