package control

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/pki"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/store"
)

const clusterID = "0b8a6f2e-8c1d-4a52-9c53-2d6c1f0a7e11"

// fakeAccess remembers who has access.
type fakeAccess struct {
	users map[string]bool
	err   error
}

func (f *fakeAccess) EnsureHost(_ context.Context, id string) error {
	f.users[id] = true
	return f.err
}

func (f *fakeAccess) RemoveHost(_ context.Context, id string) error {
	delete(f.users, id)
	return f.err
}

// fakeMembers adds every voter.
type fakeMembers struct{ err error }

func (f *fakeMembers) Find(context.Context, roster.Host) (member, reserved bool, err error) {
	return false, false, f.err
}

func (f *fakeMembers) Add(_ context.Context, h roster.Host) (join.VoterRole, error) {
	return join.VoterRole{State: join.StateExisting, ClusterToken: "t", InitialCluster: map[string]string{h.ID: h.PeerURL()}}, f.err
}

func newAdmin(t *testing.T, c *cluster) *Admin {
	t.Helper()
	root, err := pki.NewRoot(clusterID, "demo", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := root.NewIssuer(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return &Admin{
		Store: c, Access: &fakeAccess{users: map[string]bool{}}, Members: &fakeMembers{}, Issuer: issuer, Root: root.Cert,
		Log: quiet(), Now: time.Now,
	}
}

const service = "[Service]\nExecStart=/bin/sleep 1\n"

func TestPutUnit(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	for _, step := range []struct {
		name   string
		unit   api.Unit
		want   api.Outcome
		status int    // of an error
		has    string // in its text
	}{
		{"submit", api.Unit{Name: "a.service", Content: service}, api.Created, 0, ""},
		{"submit again", api.Unit{Name: "a.service", Content: service}, api.Unchanged, 0, ""},
		{"start", api.Unit{Name: "a.service", Desired: "launched"}, api.Changed, 0, ""},
		{"start again", api.Unit{Name: "a.service", Desired: "launched"}, api.Unchanged, 0, ""},
		{"new contents", api.Unit{Name: "a.service", Content: service + "Restart=always\n"}, api.Changed, 0, ""},
		{"load", api.Unit{Name: "a.service", Desired: "loaded"}, api.Changed, 0, ""},
		{"template", api.Unit{Name: "web@.service", Content: service}, api.Created, 0, ""},
		{"instance", api.Unit{Name: "web@1.service", Desired: "launched"}, api.Created, 0, ""},
		{"instance again", api.Unit{Name: "web@1.service", Desired: "launched"}, api.Unchanged, 0, ""},
		{"both at once", api.Unit{Name: "b.service", Content: service, Desired: "launched"}, api.Created, 0, ""},

		{"start a template", api.Unit{Name: "web@.service", Desired: "launched"}, 0, 400, "web@1.service"},
		{"submit and start a template", api.Unit{Name: "db@.service", Content: service, Desired: "loaded"}, 0, 400, "template"},
		{"unknown", api.Unit{Name: "c.service", Desired: "launched"}, 0, 404, "no unit c.service"},
		{"instance of nothing", api.Unit{Name: "x@1.service", Desired: "launched"}, 0, 404, "x@.service"},
		{"bad name", api.Unit{Name: "a b.service", Content: service}, 0, 400, "a b.service"},
		{"no type", api.Unit{Name: "web", Content: service}, 0, 400, ".service"},
		{"bad state", api.Unit{Name: "a.service", Desired: "running"}, 0, 400, "launched"},
		{"bad file", api.Unit{Name: "a.service", Content: "[Service]\nExecStart\n"}, 0, 400, "a.service:2"},
		{"container", api.Unit{Name: "box.service", Content: "[Container]\nImage=localhost/box\n"}, api.Created, 0, ""},
		{"bad container", api.Unit{Name: "box.service", Content: "[Container]\nImage=a.image\n"}, 0, 400, "box.service:2:7: `Image`: units of images"},
		{"its file's name", api.Unit{Name: "box.container", Content: service}, 0, 400, ".service of the same name"},
		{"too long", api.Unit{Name: "a.service", Content: strings.Repeat("#", 2<<20)}, 0, 400, "bytes"},
	} {
		got, err := a.PutUnit(t.Context(), step.unit)
		if step.status == 0 {
			if err != nil || got != step.want {
				t.Errorf("%s: got %v, %v, want %v", step.name, got, err, step.want)
			}
			continue
		}
		refused(t, step.name, err, step.status, step.has)
	}
	if record := unitOf(t, c, "web@1.service"); record.File != store.FileSum([]byte(service)) || record.Desired != store.DesiredLaunched {
		t.Errorf("the instance is %+v", record)
	}
	if record := unitOf(t, c, "a.service"); record.File != store.FileSum([]byte(service+"Restart=always\n")) || record.Desired != store.DesiredLoaded {
		t.Errorf("the unit is %+v", record)
	}
}

// TestCircularReplaces refuses the unit that would close a circle, whatever is started, and names the circle.
func TestCircularReplaces(t *testing.T) {
	a := newAdmin(t, newCluster(t))
	replacing := func(pattern string) string { return service + "[X-Fleet]\nReplaces=" + pattern + "\n" }
	for _, u := range []api.Unit{
		{Name: "a.service", Content: replacing("b.service"), Desired: "launched"},
		{Name: "b.service", Content: replacing("c*.service")},
		{Name: "new@.service", Content: replacing("old@%i.service")},
		{Name: "old@1.service", Content: replacing("new@1.service")},
		{Name: "new@2.service", Desired: "launched"},
	} {
		if _, err := a.PutUnit(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.PutUnit(t.Context(), api.Unit{Name: "c1.service", Content: replacing("a.service")})
	refused(t, "a circle of three", err, 400, "c1.service replaces a.service, a.service replaces b.service, b.service replaces c1.service")
	_, err = a.PutUnit(t.Context(), api.Unit{Name: "new@1.service", Desired: "launched"})
	refused(t, "an instance", err, 400, "new@1.service replaces old@1.service, old@1.service replaces new@1.service")
	_, err = a.PutUnit(t.Context(), api.Unit{Name: "r@.service", Content: replacing("r@*.service") + "[X-Muster]\nReplicas=2\n"})
	refused(t, "replicas", err, 400, "Replaces goes in a circle")
	if _, err := a.PutUnit(t.Context(), api.Unit{Name: "c1.service", Content: replacing("d.service")}); err != nil {
		t.Error(err)
	}
}

// racing is a store in which somebody else is quicker, once.
type racing struct {
	store.Store
	first func()
}

func (r *racing) Commit(ctx context.Context, c store.Commit) (int64, error) {
	if first := r.first; first != nil {
		r.first = nil
		first()
	}
	return r.Store.Commit(ctx, c)
}

// TestRaces changes what a change was decided from, right before it is written: it is decided anew.
func TestRaces(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	race := &racing{Store: c}
	a.Store = race
	c.submit("web@.service", "", store.DesiredInactive)

	race.first = func() { c.submit("web@.service", "# newer\n", store.DesiredInactive) }
	if _, err := a.PutUnit(t.Context(), api.Unit{Name: "web@1.service", Desired: "launched"}); err != nil {
		t.Fatal(err)
	}
	if got, want := unitOf(t, c, "web@1.service").File, unitOf(t, c, "web@.service").File; got != want {
		t.Errorf("the instance has the contents %s, its template %s", got, want)
	}
	race.first = func() { c.commit(store.Delete(store.UnitKey("web@.service"))) }
	_, err := a.PutUnit(t.Context(), api.Unit{Name: "web@2.service", Desired: "launched"})
	refused(t, "the template goes", err, http.StatusNotFound, "web@.service")

	race.first = func() { c.submit("web@1.service", "# other\n", store.DesiredLoaded) }
	if _, err := a.PutUnit(t.Context(), api.Unit{Name: "web@1.service", Desired: "inactive"}); err != nil {
		t.Fatal(err)
	}
	if got := unitOf(t, c, "web@1.service"); got.Desired != store.DesiredInactive || got.File != store.FileSum([]byte(service+"# other\n")) {
		t.Errorf("the unit is %+v", got)
	}
	race.first = func() { c.commit(store.Delete(store.UnitKey("web@1.service"))) }
	refused(t, "deleted meanwhile", a.DeleteUnit(t.Context(), "web@1.service"), http.StatusNotFound, "web@1.service")
}

func unitOf(t *testing.T, c *cluster, name string) store.UnitRecord {
	t.Helper()
	item, err := c.Get(t.Context(), store.UnitKey(name))
	if err != nil {
		t.Fatal(err)
	}
	record, err := store.Unmarshal[store.UnitRecord](item.Value)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// refused wants an error of the API with a status, a text in it, and a hint.
func refused(t *testing.T, what string, err error, status int, has string) {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Status != status || e.Hint == "" || !strings.Contains(err.Error(), has) {
		t.Errorf("%s: got %v, want status %d, %q and a hint", what, err, status, has)
	}
}

func TestDeleteUnit(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	c.submit("a.service", "", store.DesiredLaunched)
	if err := a.DeleteUnit(t.Context(), "a.service"); err != nil {
		t.Fatal(err)
	}
	refused(t, "again", a.DeleteUnit(t.Context(), "a.service"), http.StatusNotFound, "a.service")
	refused(t, "bad name", a.DeleteUnit(t.Context(), "a"), http.StatusBadRequest, "")
}

func TestLabels(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	c.join(1)
	for _, step := range []struct {
		labels map[string]string
		want   api.Outcome
	}{
		{map[string]string{"a": "b"}, api.Changed},
		{map[string]string{"a": "b"}, api.Unchanged},
		{nil, api.Changed},
		{map[string]string{}, api.Unchanged},
	} {
		if got, err := a.SetLabels(t.Context(), id(1), step.labels); err != nil || got != step.want {
			t.Errorf("%v: got %v, %v, want %v", step.labels, got, err, step.want)
		}
	}
	one, two := "1", "2"
	for _, step := range []struct {
		patch map[string]*string
		want  api.Outcome
	}{
		{map[string]*string{"a": &one, "b": &one}, api.Changed},
		{map[string]*string{"a": &one}, api.Unchanged},
		{map[string]*string{"a": nil, "b": &two, "c": nil}, api.Changed},
		{map[string]*string{"a": nil}, api.Unchanged},
	} {
		if got, err := a.PatchLabels(t.Context(), id(1), step.patch); err != nil || got != step.want {
			t.Errorf("%v: got %v, %v, want %v", step.patch, got, err, step.want)
		}
	}
	if _, member, err := a.member(t.Context(), id(1)); err != nil || len(member.Labels) != 1 || member.Labels["b"] != two {
		t.Errorf("the labels are %v, %v", member.Labels, err)
	}
	if _, err := a.SetLabels(t.Context(), id(1), map[string]string{"a": one}); err != nil {
		t.Fatal(err)
	}
	if _, member, err := a.member(t.Context(), id(1)); err != nil || len(member.Labels) != 2 || member.Labels["b"] != two {
		t.Errorf("the cluster file took away what was set at run time: %v, %v", member.Labels, err)
	}
	_, err := a.SetLabels(t.Context(), id(2), nil)
	refused(t, "unknown", err, http.StatusNotFound, id(2))
	_, err = a.SetLabels(t.Context(), "node-1", nil)
	refused(t, "a name", err, http.StatusBadRequest, "node-1")
}

func TestRemoveHost(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	access := a.Access.(*fakeAccess)
	c.join(1, 5)
	access.users[id(1)], access.users[id(5)] = true, true

	refused(t, "the only voter", a.RemoveHost(t.Context(), id(1)), http.StatusConflict, "only voter")
	if !access.users[id(1)] {
		t.Error("it has lost its access all the same")
	}
	if err := a.RemoveHost(t.Context(), id(5)); err != nil {
		t.Fatal(err)
	}
	if access.users[id(5)] {
		t.Error("a host that was removed still has access")
	}
	for _, key := range keys(c) {
		if strings.Contains(key, id(5)) {
			t.Errorf("%s is left", key)
		}
	}
	refused(t, "again", a.RemoveHost(t.Context(), id(5)), http.StatusNotFound, id(5))
	c.join(2)
	if err := a.RemoveHost(t.Context(), id(1)); err != nil {
		t.Errorf("one voter of two: %v", err)
	}
}

func tokenFor(n int, voter bool) (secret string, req api.TokenRequest) {
	secret, sum := join.NewToken()
	h := member(n)
	h.Voter, h.Address, h.Ports = voter, "", roster.Ports{}
	return secret, api.TokenRequest{Host: h, TTL: time.Hour, Hash: sum}
}

func TestAddToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		_, req := tokenFor(7, false)
		if err := a.AddToken(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		before := tokenOf(t, c, req.Hash)
		time.Sleep(time.Minute)
		if err := a.AddToken(t.Context(), req); err != nil || !tokenOf(t, c, req.Hash).Expires.Equal(before.Expires) {
			t.Errorf("repeating it: %v, expires %v, was %v", err, tokenOf(t, c, req.Hash).Expires, before.Expires)
		}
		time.Sleep(2 * time.Hour)
		if err := a.AddToken(t.Context(), req); err != nil || !tokenOf(t, c, req.Hash).Expires.After(time.Now()) {
			t.Errorf("repeating it after it expired: %v", err)
		}
		other := req
		other.Host.ID = id(8)
		refused(t, "another host", a.AddToken(t.Context(), other), http.StatusConflict, "")
		for name, spoil := range map[string]func(*api.TokenRequest){
			"hash": func(r *api.TokenRequest) { r.Hash = "abc" },
			"case": func(r *api.TokenRequest) { r.Hash = strings.ToUpper(r.Hash) },
			"ID":   func(r *api.TokenRequest) { r.Host.ID = "7" },
			"name": func(r *api.TokenRequest) { r.Host.Name = "Node 7" },
			"TTL":  func(r *api.TokenRequest) { r.TTL = 0 },
			"long": func(r *api.TokenRequest) { r.TTL = 1000 * time.Hour },
		} {
			bad := req
			spoil(&bad)
			refused(t, name, a.AddToken(t.Context(), bad), http.StatusBadRequest, "")
		}
	})
}

func tokenOf(t *testing.T, c *cluster, sum string) store.Token {
	t.Helper()
	item, err := c.Get(t.Context(), store.TokenKey(sum))
	if err != nil {
		t.Fatal(err)
	}
	token, err := store.Unmarshal[store.Token](item.Value)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		c.join(1)
		secret, token := tokenFor(7, false)
		if err := a.AddToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		other, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		remote := netip.MustParseAddr("127.1.0.7")
		req := join.Request{Host: "node-7", HostID: id(7), Token: secret}
		refusal := func(what string, req join.Request, want error) {
			t.Helper()
			if _, err := a.Admit(t.Context(), req, &other.PublicKey, remote); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		refusal("an unknown token", join.Request{Host: "node-7", HostID: id(7), Token: "x"}, join.ErrTokenUnknown)
		refusal("another host's token", join.Request{Host: "node-8", HostID: id(8), Token: secret}, join.ErrTokenHost)

		reply, err := a.Admit(t.Context(), req, &key.PublicKey, remote)
		if err != nil {
			t.Fatal(err)
		}
		checkReply(t, a, reply)
		if !a.Access.(*fakeAccess).users[id(7)] {
			t.Error("the host was admitted without access to the store")
		}
		refusal("another key", req, join.ErrTokenUsed)

		before, _ := c.Range(t.Context(), store.Prefix)
		time.Sleep(2 * time.Hour) // the token has expired, its use may be repeated
		if _, err := a.Admit(t.Context(), req, &key.PublicKey, remote); err != nil {
			t.Errorf("the same key again: %v", err)
		}
		if after, _ := c.Range(t.Context(), store.Prefix); after.Revision != before.Revision {
			t.Errorf("a repeated join wrote %d revisions", after.Revision-before.Revision)
		}

		late, token := tokenFor(8, false)
		if err := a.AddToken(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		refusal("an expired token", join.Request{Host: "node-8", HostID: id(8), Token: late}, join.ErrTokenExpired)
	})
}

func checkReply(t *testing.T, a *Admin, reply join.Reply) {
	t.Helper()
	peer, _, err := pki.Verify(a.Root, []byte(reply.Certificate), time.Now())
	if err != nil || peer.ID != id(7) || peer.Role != pki.RoleHost {
		t.Errorf("the certificate is of %v, %v", peer, err)
	}
	h, ok := reply.Roster.ByID(id(7))
	if !ok || h.Address != "127.1.0.7" || h.Ports != roster.DefaultPorts() || len(reply.Roster) != 2 || reply.Voter != nil {
		t.Errorf("the reply is %+v", reply)
	}
}

// TestAdmitVoter gives a voter its role, or lets it ask again while the members cannot change.
func TestAdmitVoter(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	c.join(1)
	secret, token := tokenFor(2, true)
	if err := a.AddToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	req := join.Request{Host: "node-2", HostID: id(2), Token: secret}
	a.Members.(*fakeMembers).err = join.ErrNotForming
	if _, err := a.Admit(t.Context(), req, &key.PublicKey, netip.MustParseAddr("127.1.0.2")); !errors.Is(err, join.ErrNotForming) {
		t.Errorf("while the members cannot change: %v", err)
	}
	a.Members.(*fakeMembers).err = nil
	reply, err := a.Admit(t.Context(), req, &key.PublicKey, netip.MustParseAddr("127.1.0.2"))
	if err != nil || reply.Voter == nil || reply.Voter.State != join.StateExisting || reply.Voter.IssuerKey == "" {
		t.Errorf("got %v, %v", reply, err)
	}
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		a := newAdmin(t, c)
		c.join(1)
		key, err := pki.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		old, err := a.Issuer.SignHost(&key.PublicKey, member(1), clusterID, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(48 * time.Hour) // it has expired
		reply, err := a.Renew(t.Context(), api.RenewRequest{Certificate: string(old)})
		if err != nil {
			t.Fatal(err)
		}
		peer, leaf, err := pki.Verify(a.Root, []byte(reply.Certificate), time.Now())
		if err != nil || peer.ID != id(1) || !key.PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("the new certificate is of %v, %v", peer, err)
		}

		stranger, err := a.Issuer.SignHost(&key.PublicKey, member(9), clusterID, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		control, err := a.Issuer.MintControl(member(1), clusterID, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Renew(t.Context(), api.RenewRequest{Certificate: string(stranger)})
		refused(t, "a host that left", err, http.StatusForbidden, "not in the cluster")
		_, err = a.Renew(t.Context(), api.RenewRequest{Certificate: string(control.CertPEM)})
		refused(t, "a control certificate", err, http.StatusBadRequest, "cannot renew")
		_, err = a.Renew(t.Context(), api.RenewRequest{Certificate: "x"})
		refused(t, "no certificate", err, http.StatusBadRequest, "cannot renew")
		foreign := newAdmin(t, c)
		_, err = foreign.Renew(t.Context(), api.RenewRequest{Certificate: string(old)})
		refused(t, "another cluster's", err, http.StatusBadRequest, "cannot renew")
	})
}
