package ec2

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/providers"
	"github.com/musterhq/muster/providers/ec2/ec2test"
)

// wire keeps the requests for instances as they are sent.
type wire struct{ bodies []string }

func (w *wire) Do(req *http.Request) (*http.Response, error) {
	text, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.Body = io.NopCloser(bytes.NewReader(text))
	if strings.Contains(string(text), "Action=RunInstances") {
		w.bodies = append(w.bodies, string(text))
	}
	return http.DefaultClient.Do(req)
}

// lines renders a query, a parameter a line.
func lines(t *testing.T, query string) string {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&text, "%s = %s\n", key, values.Get(key))
	}
	return text.String()
}

// TestRequest holds the exact requests for instances: what changes here changes what a repeated create asks for. The
// request of another process, which has only what the first one kept, is the same.
func TestRequest(t *testing.T) {
	everything := func(s *Settings) {
		s.Spot, s.SpotMaxPrice, s.Key, s.InstanceProfile, s.HopLimit, s.Placement = true, "0.05", ec2test.KeyName, "hosts", 2, placementCluster
		s.Address, s.Reach, s.SecurityGroups = addressElastic, addressPrivate, nil
		s.Root = Volume{Size: 20 << 30, IOPS: 4000, Throughput: 250, KMSKey: "alias/hosts"}
		s.Data = []DataVolume{{Device: "/dev/sdf", Volume: Volume{Size: 1 << 40, Type: "st1", Unencrypted: true}}}
		s.Tags = map[string]string{"team": "billing", "Name": "the web"}
	}
	for name, s := range map[string]*Settings{"defaults": tiny(), "everything": tiny(everything), "private": tiny(private)} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t, ec2test.Options{Hidden: 20 * time.Millisecond, HideCalls: true})
			w := &wire{}
			for range 2 {
				p := a.open(t)
				p.http = w
				mustCreate(t, patient(p), request("web-1", s))
				a.AddImage("tiny-linux-1.3")
				a.AddSubnet(ec2test.Subnet{ID: "subnet-00000000000000000", VPC: ec2test.DefaultVPC, Zone: "eu-test-1a", Default: true})
			}
			got := lines(t, w.bodies[0])
			golden.Compare(t, "testdata/"+name+".golden", got)
			for _, again := range w.bodies {
				if diff := cmp.Diff(got, lines(t, again)); diff != "" {
					t.Errorf("another request: %s", diff)
				}
			}
		})
	}
}

func TestSpread(t *testing.T) {
	subnets := []subnet{{ID: "s-5", Zone: "b"}, {ID: "s-1", Zone: "a"}, {ID: "s-4", Zone: "c"}, {ID: "s-2", Zone: "b"}, {ID: "s-3", Zone: "a"}}
	zones := map[string]int{}
	used := map[string]int{}
	for n := range 60 {
		host := fmt.Sprintf("web-%d", n+1)
		order := spread(subnets, host)
		if len(order) != 3 || order[0].Zone == order[1].Zone || order[1].Zone == order[2].Zone || order[0].Zone == order[2].Zone {
			t.Fatalf("%s: %v", host, order)
		}
		shuffled := slices.Clone(subnets)
		slices.Reverse(shuffled)
		if again := spread(shuffled, host); !slices.Equal(again, order) {
			t.Errorf("%s: %v and then %v", host, order, again)
		}
		zones[order[0].Zone]++
		used[order[0].ID]++
	}
	if zones["a"] != 20 || zones["b"] != 20 || zones["c"] != 20 || len(used) != 5 {
		t.Errorf("hosts by zone: %v, by subnet: %v", zones, used)
	}
	if order := spread(nil, "web-1"); len(order) != 0 {
		t.Errorf("no subnets: %v", order)
	}
}

func TestTokens(t *testing.T) {
	id := request("web-1", nil).Identity
	a, b := owner{cluster: cluster, provider: "a"}, owner{cluster: cluster, provider: "b"}
	token := a.token(id, 12)
	if len(token) > 64 || token == b.token(id, 12) || token == a.token(id, 1) {
		t.Errorf("tokens %s, %s, %s", token, b.token(id, 12), a.token(id, 1))
	}
	if n := a.attemptOf(id, types.Instance{ClientToken: aws.String(token)}); n != 12 {
		t.Errorf("attempt %d of %s", n, token)
	}
	if n := b.attemptOf(id, types.Instance{ClientToken: aws.String(token)}); n != 0 {
		t.Errorf("attempt %d of another's token", n)
	}
}

func TestRules(t *testing.T) {
	allow := Allow{API: []string{"10.0.0.0/8", "10.0.0.0/8"}, SSH: []string{"2001:db8::/32"}, Members: []string{"10.0.0.0/8"}, APIPort: 7400}
	var group types.SecurityGroup
	group.GroupId = aws.String("sg-1")
	for _, r := range allow.rules() {
		group.IpPermissions = append(group.IpPermissions, r.permission("sg-1"))
	}
	if diff := cmp.Diff(allow.rules(), rulesOf(group), cmp.AllowUnexported(rule{})); diff != "" {
		t.Error(diff)
	}
	if n := len(allow.rules()); n != 5 { // members, SSH, and three ports of which one is asked for thrice
		t.Errorf("%d rules: %v", n, allow.rules())
	}
	group.IpPermissions[0].UserIdGroupPairs[0].Description = aws.String("by hand")
	if missing := without(allow.rules(), rulesOf(group)); len(missing) != 1 || missing[0] != (rule{}) {
		t.Errorf("missing %v", missing)
	}
}

func TestOverlap(t *testing.T) {
	for _, tt := range []struct {
		written, text string
		want          int
	}{{"", "abc", 0}, {"abc", "abc", 3}, {"abc", "abcdef", 3}, {"abcdef", "defgh", 3}, {"abc", "xyz", 0}, {"abab", "abx", 2}} {
		if got := overlap([]byte(tt.written), []byte(tt.text)); got != tt.want {
			t.Errorf("%q then %q: %d, want %d", tt.written, tt.text, got, tt.want)
		}
	}
}

func TestClassOf(t *testing.T) {
	for code, want := range map[string]error{
		"RequestLimitExceeded": providers.ErrThrottled, "InternalError": providers.ErrUnavailable, "VcpuLimitExceeded": providers.ErrQuota,
		"AddressLimitExceeded": providers.ErrQuota, "InsufficientInstanceCapacity": providers.ErrQuota, "AuthFailure": providers.ErrAuth,
		"UnauthorizedOperation": providers.ErrAuth, "InvalidAMIID.NotFound": providers.ErrNotFound, "InvalidGroup.Duplicate": providers.ErrConflict,
		"InvalidParameterValue": providers.ErrInvalid, "DependencyViolation": providers.ErrUnavailable, "Surprise": providers.ErrInvalid,
	} {
		if got := classOf(code, 400); got != want {
			t.Errorf("%s is %v, want %v", code, got, want)
		}
	}
	if got := classOf("Surprise", 503); got != providers.ErrUnavailable {
		t.Errorf("a status of 503 is %v", got)
	}
}

// TestBareStatus is answered by something that is not EC2: a proxy, or a service at a wrong address.
func TestBareStatus(t *testing.T) {
	a := newAccount(t, ec2test.Options{})
	for status, want := range map[int]error{
		http.StatusUnauthorized: providers.ErrAuth, http.StatusForbidden: providers.ErrAuth, http.StatusNotFound: providers.ErrInvalid,
		http.StatusTooManyRequests: providers.ErrThrottled, http.StatusBadGateway: providers.ErrUnavailable,
	} {
		p := a.open(t)
		p.http = answering(func(*http.Request) (*http.Response, error) {
			return &http.Response{
				StatusCode: status, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader("you may not")),
			}, nil
		})
		_, err := p.List(t.Context(), cluster)
		if providers.Class(err) != providers.Class(want) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
			t.Errorf("%d: %v, want %v", status, err, want)
		}
	}
}

// answering answers requests in place of a server.
type answering func(*http.Request) (*http.Response, error)

func (a answering) Do(req *http.Request) (*http.Response, error) { return a(req) }

func TestNearest(t *testing.T) {
	list := []types.Image{{Name: aws.String("debian-12-amd64")}, {Name: aws.String("debian-13-amd64")}, {Name: aws.String("debian-sid")}, {Name: aws.String("dos")}}
	if got := strings.Join(nearest("debian-13-arm64", list), " "); got != "debian-13-amd64 debian-12-amd64 debian-sid" {
		t.Error(got)
	}
}
