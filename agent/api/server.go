package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/join"
)

// Fleet is the cluster as the server needs it. Errors are *Error where the caller is to blame; the store's errors may be
// returned as they are.
type Fleet interface {
	// Status is the cluster now. It answers without quorum too, and says so.
	Status(ctx context.Context) (Status, error)
	// WatchStatus calls yield with the status now and after every change, until yield returns false or ctx ends.
	WatchStatus(ctx context.Context, yield func(Status) bool) error
	// Units returns every unit without its contents, sorted by name.
	Units(ctx context.Context) ([]Unit, error)
	// Unit returns one unit with its contents.
	Unit(ctx context.Context, name string) (Unit, error)
	// Why explains where a unit is.
	Why(ctx context.Context, name string) (Why, error)
	// Rebalance tells what would move now, at most so many units, 0 for all, and how far rebalancing is.
	Rebalance(ctx context.Context, moves int) (Rebalance, error)
	// Logs copies what a unit printed to w, wherever it runs. As soon as it knows that there is something to follow it
	// writes, if need be nothing, so that the caller's wait for a first sign ends.
	Logs(ctx context.Context, name string, o LogOptions, w io.Writer) error
	// Locks tells of every group's reboot lock, sorted by group.
	Locks(ctx context.Context) ([]Lock, error)
	// Update tells how hosts update.
	Update(ctx context.Context) (Update, error)
	// Reload reloads a unit, or the instances of a template, in place on every host that has some; with a host's name there
	// alone. What went wrong on a host is told in its result.
	Reload(ctx context.Context, name, host string) ([]Reloaded, error)
	// Health is the state of this agent.
	Health() Health
}

// Admin is what voters can do beyond Fleet.
type Admin interface {
	PutUnit(ctx context.Context, u Unit) (Outcome, error)
	DeleteUnit(ctx context.Context, name string) error
	// ChangeRollout does one of the verbs RolloutPause, RolloutResume and RolloutUndo to a unit's rollout.
	ChangeRollout(ctx context.Context, unit, verb string) error
	AddToken(ctx context.Context, req TokenRequest) error
	RemoveHost(ctx context.Context, id string) error
	SetLabels(ctx context.Context, id string, labels map[string]string) (Outcome, error)
	// PatchLabels sets the labels that have a value and removes those that have none.
	PatchLabels(ctx context.Context, id string, labels map[string]*string) (Outcome, error)
	// OrderHost cordons a host, drains it, or lets it take units again.
	OrderHost(ctx context.Context, id string, order HostOrder) (Outcome, error)
	// OrderRebalance orders moves that even out the load, and Configure changes settings.
	OrderRebalance(ctx context.Context, order RebalanceOrder) error
	Configure(ctx context.Context, settings Settings) (Outcome, error)
	// Seat tells a host what the voters know of its vote, and TakeSeat gives one that shall vote what it needs for that.
	// OrderSeat says whether a host shall.
	Seat(ctx context.Context, id string) (Seat, error)
	TakeSeat(ctx context.Context, id string) (join.VoterRole, error)
	OrderSeat(ctx context.Context, id string, votes bool) (Outcome, error)
	// OrderLock does one of the verbs of a LockOrder to a group's reboot lock, and SwapLock what locksmithctl does: for the
	// host self alone, or for anybody if that is "".
	OrderLock(ctx context.Context, group, verb string, order LockOrder) error
	SwapLock(ctx context.Context, group, self string, swap LockSwap) error
	// OrderUpdate does one of the verbs of an UpdateOrder.
	OrderUpdate(ctx context.Context, verb string, order UpdateOrder) error
	// Backup writes a backup of all records (cluster/backup).
	Backup(ctx context.Context, w io.Writer) error
	// Renew signs a new certificate. The request is not yet known to come from the host itself.
	Renew(ctx context.Context, req RenewRequest) (RenewReply, error)
}

// Server is the agent's API.
type Server struct {
	ClusterID string
	Fleet     Fleet
	Admin     Admin        // nil on hosts that do not vote
	Join      http.Handler // nil on hosts that do not vote
	Recovery  Recovery     // nil: this host cannot be restored
	Log       *slog.Logger
	// FleetAPI serves fleet's API (agent/fleetapi) to callers with certificates too, below FleetPath. It may be nil.
	FleetAPI http.Handler
	// FleetLock makes a handler of FleetLock below FleetLockPath, for the host with an ID or, if that is "", for operators. It
	// is nil on hosts that do not vote.
	FleetLock func(self string) http.Handler
	// Keys serves the applications' keys (agent/keysapi) to operators, below KeysPath. It may be nil.
	Keys http.Handler
	// HostsCommand lets hosts do what fleet let every machine do: change units and labels. Without it only operators and
	// voters may.
	HostsCommand bool
}

// writeTimeout bounds changes of the cluster. It is shorter than the client's patience with one endpoint, so that the
// client hears why.
const writeTimeout = 2500 * time.Millisecond

// answerTimeout is how long a caller may take to read an answer, or the next piece of one that goes on.
const answerTimeout = 30 * time.Second

// maxBody bounds what is read of a request: a unit file of 256 KiB, escaped.
const maxBody = 1 << 20

// Handler serves the whole API to callers that their TLS certificates identify.
func (s *Server) Handler() http.Handler {
	return s.mux(func(r *http.Request) (Caller, error) { return identify(r.TLS, s.ClusterID) }, Anonymous|members)
}

// SocketHandler serves what processes of this host may read.
func (s *Server) SocketHandler() http.Handler {
	return s.mux(func(*http.Request) (Caller, error) { return Caller{Role: Socket}, nil }, Socket)
}

// mux routes every request through the table. Routes that none of the roles may use do not exist in it.
func (s *Server) mux(identify func(*http.Request) (Caller, error), roles Role) http.Handler {
	mux := http.NewServeMux()
	for _, rt := range routes {
		if rt.roles&roles == 0 {
			continue
		}
		mux.HandleFunc(rt.method+" "+rt.path, func(w http.ResponseWriter, r *http.Request) {
			s.serve(w, r, rt, identify)
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(http.StatusNotFound, hintVersions, "there is no %s %s", r.Method, r.URL.Path))
	})
	return mux
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, rt route, identify func(*http.Request) (Caller, error)) {
	caller, err := identify(r)
	if err == nil {
		err = s.authorize(caller, rt)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	if !rt.long {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	if rt.voter && !rt.long && rt.path != join.Path { // a join takes its own time
		ctx, cancel := context.WithTimeout(r.Context(), writeTimeout)
		defer cancel()
		r = r.WithContext(ctx)
	}
	if err := rt.handler(s, w, r, caller); err != nil {
		s.Log.Debug("request refused", "method", r.Method, "path", r.URL.Path, "err", err)
		writeError(w, err)
	}
}

// authorize says whether the caller may use the route, and whether this agent can serve it.
func (s *Server) authorize(c Caller, rt route) error {
	switch {
	case rt.allows(c.Role):
	case rt.fleet && c.Role == Host && s.HostsCommand:
	case rt.fleet && c.Role == Host:
		return Errorf(http.StatusForbidden, "do it on a voter, or with `muster`, or let hosts command: "+
			`{"hosts_command": true} in /etc/muster/fleet.json of the voters`, "%s may not %s %s", c.Role, rt.method, rt.path)
	default:
		return Errorf(http.StatusForbidden, "this needs the operator's certificate: use `muster` where the cluster was made",
			"%s may not %s %s", c.Role, rt.method, rt.path)
	}
	if rt.voter && s.Admin == nil {
		return errNotVoter()
	}
	return nil
}

func errNotVoter() *Error {
	return Errorf(http.StatusMisdirectedRequest, "ask a voter; `muster status` shows which hosts are",
		"this host does not vote and cannot do that")
}

// Serve answers on a listener until ctx ends, then closes every connection.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		return srv.Close()
	})
	return g.Wait()
}
