package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"reflect"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"

	"github.com/musterhq/muster/providers"
)

// session is the provider's session at the server. It begins with the first call.
type session struct {
	server server
	// wrap stands around the transport in tests.
	wrap func(http.RoundTripper) http.RoundTripper

	lock   chan struct{} // holds a value while somebody connects or logs in
	client *client       // nil before the first call
	logins int           // how often the server has let us in
}

func newSession(s server) *session { return &session{server: s, lock: make(chan struct{}, 1)} }

// client makes calls. When the server says that nobody is logged in, it logs in and repeats the call, once.
type client struct {
	*vim25.Client
	session *session
	key     string // of the session, for questions about privileges
}

// esxi tells whether the server is an ESXi host.
func (c *client) esxi() bool { return !c.IsVC() }

// hold waits until nobody else connects or logs in.
func (s *session) hold(ctx context.Context) (release func(), err error) {
	select {
	case s.lock <- struct{}{}:
		return func() { <-s.lock }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// connect returns the client, which the first caller makes.
func (s *session) connect(ctx context.Context) (*client, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	release, err := s.hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if s.client != nil {
		return s.client, nil
	}
	c, err := s.open(ctx)
	if err == nil {
		err = s.login(ctx, c)
	}
	if err != nil {
		return nil, classified(ctx, fmt.Errorf("cannot connect to %s: %w", s.server.url.Host, err))
	}
	s.client = c
	return c, nil
}

// open asks the server what it is and which version of the API it speaks.
func (s *session) open(ctx context.Context) (*client, error) {
	sc := soap.NewClient(s.server.url, false)
	sc.UserAgent = "muster"
	if s.server.CA != "" {
		if err := sc.SetRootCAs(s.server.CA); err != nil {
			return nil, fmt.Errorf("`ca`: %w: %w", err, providers.ErrInvalid)
		}
	}
	if s.server.Thumbprint != "" {
		sc.SetThumbprint(s.server.url.Host, s.server.Thumbprint)
	}
	// Many calls at once go over connections that are kept.
	sc.DefaultTransport().MaxIdleConnsPerHost = maxConnections
	sc.DefaultTransport().MaxConnsPerHost = maxConnections
	sc.Transport = s.transport(sc)
	if err := negotiate(ctx, sc); err != nil {
		return nil, err
	}
	vc, err := vim25.NewClient(ctx, sc)
	if err != nil {
		return nil, err
	}
	c := &client{Client: vc, session: s}
	vc.RoundTripper = c
	return c, nil
}

// maxConnections is how many calls are under way at once; more wait. A vCenter serves a few dozen at a time.
const maxConnections = 32

func (s *session) transport(sc *soap.Client) http.RoundTripper {
	var t http.RoundTripper = statuses{sc.DefaultTransport()}
	if s.wrap != nil {
		t = s.wrap(t)
	}
	return t
}

// negotiate finds the newest version of the API that the server speaks, which older servers insist on.
func negotiate(ctx context.Context, sc *soap.Client) error {
	u := sc.URL()
	u.Path = path.Join(u.Path, "vimServiceVersions.xml")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	return sc.Do(ctx, req, func(res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return nil // the client's own version
		}
		versions := struct {
			Namespace *string `xml:"namespace>name"`
			Version   *string `xml:"namespace>version"`
		}{&sc.Namespace, &sc.Version}
		if err := xml.NewDecoder(res.Body).Decode(&versions); err != nil {
			return fmt.Errorf("%s is not the API of vSphere: %w", u.Path, err)
		}
		return nil
	})
}

// login logs in. The lock is held.
func (s *session) login(ctx context.Context, c *client) error {
	res, err := methods.Login(ctx, c.Client.Client, &types.Login{
		This: *c.ServiceContent.SessionManager, UserName: s.server.User.Reveal(), Password: s.server.Password.Reveal(),
	})
	if err != nil {
		return fmt.Errorf("cannot log in: %w", err)
	}
	c.key = res.Returnval.Key
	s.logins++
	return nil
}

// renew logs in unless somebody has done so since the caller looked.
func (s *session) renew(ctx context.Context, c *client, seen int) error {
	release, err := s.hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if s.logins != seen {
		return nil
	}
	return s.login(ctx, c)
}

// RoundTrip makes a call. A call that was refused because nobody is logged in has changed nothing, so it is made again.
func (c *client) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	seen, err := c.seen(ctx)
	if err != nil {
		return err
	}
	err = c.Client.Client.RoundTrip(ctx, req, res)
	if err == nil && hidden(res) {
		err = errLoggedOut
	}
	if !errors.Is(err, errLoggedOut) && !isFault[*types.NotAuthenticated](err) {
		return err
	}
	if err := c.session.renew(ctx, c, seen); err != nil {
		return err
	}
	reflect.ValueOf(res).Elem().SetZero()
	return c.Client.Client.RoundTrip(ctx, req, res)
}

// seen is how many logins there have been when a call begins.
func (c *client) seen(ctx context.Context) (int, error) {
	release, err := c.session.hold(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	return c.session.logins, nil
}

// sessionKey names the session.
func (c *client) sessionKey(ctx context.Context) (string, error) {
	release, err := c.session.hold(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	return c.key, nil
}

var errLoggedOut = errors.New("nobody is logged in")

// hidden tells whether the answer of a read holds nothing because nobody is logged in: that is no fault of the call.
func hidden(res soap.HasFault) bool {
	body, is := res.(*methods.RetrievePropertiesExBody)
	if !is || body.Res == nil || body.Res.Returnval == nil {
		return false
	}
	for _, object := range body.Res.Returnval.Objects {
		for _, missing := range object.MissingSet {
			if _, is := missing.Fault.Fault.(*types.NotAuthenticated); is {
				return true
			}
		}
	}
	return false
}

// withREST logs in at the REST part of the API, which has sessions of its own, and out again.
func (c *client) withREST(ctx context.Context, do func(*rest.Client) error) error {
	rc := rest.NewClient(c.Client)
	rc.Transport = c.session.transport(rc.Client)
	user := url.UserPassword(c.session.server.User.Reveal(), c.session.server.Password.Reveal())
	if err := rc.Login(ctx, user); err != nil {
		return classifiedREST(ctx, fmt.Errorf("cannot log in: %w", err))
	}
	err := do(rc)
	return errors.Join(classifiedREST(ctx, err), classifiedREST(ctx, rc.Logout(ctx)))
}

// classifiedREST classifies an error of the REST part of the API, which is known by its status.
func classifiedREST(ctx context.Context, err error) error {
	cause := err
	for next := errors.Unwrap(cause); next != nil; next = errors.Unwrap(cause) {
		cause = next
	}
	for code, class := range map[int]error{
		http.StatusUnauthorized: providers.ErrAuth, http.StatusForbidden: providers.ErrAuth,
		http.StatusNotFound: providers.ErrNotFound, http.StatusBadRequest: providers.ErrInvalid,
		http.StatusConflict: providers.ErrConflict, http.StatusInternalServerError: providers.ErrUnavailable,
	} {
		if err != nil && rest.IsStatusError(cause, code) {
			return fmt.Errorf("%w: %w", err, class)
		}
	}
	return classified(ctx, err)
}
