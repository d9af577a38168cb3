package control

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cluster/store"
)

// start submits a template and starts it.
func start(t *testing.T, a *Admin, name, service, rules string) {
	t.Helper()
	content := "[Service]\nExecStart=" + service + "\n" + rules
	if _, err := a.PutUnit(t.Context(), api.Unit{Name: name, Content: content, Desired: "launched"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
}

// packed is each host's entries as they are stored.
func (c *cluster) packed() []string {
	c.t.Helper()
	view, err := c.Range(c.t.Context(), store.PrefixSchedule)
	if err != nil {
		c.t.Fatal(err)
	}
	tables := store.NewTables()
	tables.Read(view)
	var lines []string
	for _, n := range []int{1, 2, 3} {
		for _, u := range tables.Schedule[id(n)].Record.Units {
			lines = append(lines, fmt.Sprintf("%d: %s %s %s of %.4s", n, u.Name, u.Instances, u.Desired, u.File))
		}
	}
	slices.Sort(lines)
	return lines
}

func (c *cluster) expectPacked(when string, want ...string) {
	c.t.Helper()
	if d := cmp.Diff(want, c.packed()); d != "" {
		c.t.Errorf("%s: %s", when, d)
	}
}

func fileOf(service, rules string) string {
	return fmt.Sprintf("%.4s", store.FileSum([]byte("[Service]\nExecStart="+service+"\n"+rules)))
}

// TestReplicas starts a template, has more and fewer of it, changes what it runs, and ends it.
func TestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2, 3)
		a := newAdmin(t, c)
		_, end := c.lead("node-1")
		defer end()
		const five, seven, two = "[X-Muster]\nReplicas=5\n", "[X-Muster]\nReplicas=7\n", "[X-Muster]\nReplicas=2\n"
		start(t, a, "web@.service", "/bin/web", five)
		was := fileOf("/bin/web", five)
		c.expectPacked("begun", "1: web@.service 1-2 launched of "+was, "2: web@.service 3-4 launched of "+was,
			"3: web@.service 5 launched of "+was)
		start(t, a, "web@.service", "/bin/web", seven)
		more := fileOf("/bin/web", seven)
		c.expectPacked("two more restart none", "1: web@.service 1-2 launched of "+was,
			"1: web@.service 6 launched of "+more, "2: web@.service 3-4 launched of "+was, "3: web@.service 5 launched of "+was,
			"3: web@.service 7 launched of "+more)
		start(t, a, "web@.service", "/bin/web2", two)
		other := fileOf("/bin/web2", two)
		c.expectPacked("fewer, and they run something else", "1: web@.service 1-2 launched of "+other)
		if err := a.DeleteUnit(t.Context(), "web@.service"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.expectPacked("removed")
	})
}

// TestReplicasWithRulesOfTheirOwn follows a peer each, and gives one instance a unit of its own.
func TestReplicasWithRulesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1, 2, 3)
		a := newAdmin(t, c)
		_, end := c.lead("node-1")
		defer end()
		start(t, a, "db@.service", "/bin/db", "[X-Muster]\nReplicas=3\nSpread=host\n")
		start(t, a, "log@.service", "/bin/log", "[X-Fleet]\nMachineOf=db@%i.service\n[X-Muster]\nReplicas=3\n")
		want := []string{
			"db@1.service@1", "db@2.service@2", "db@3.service@3", "log@1.service@1", "log@2.service@2", "log@3.service@3",
		}
		c.expect("each with its peer", want...)
		start(t, a, "db@2.service", "/bin/other", "")
		c.expect("one is a unit of its own and stays", want...)
		if err := a.DeleteUnit(t.Context(), "db@2.service"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		c.expect("and the template's again", want...)
	})
}

func TestTemplatesWithoutReplicasAreNotStarted(t *testing.T) {
	c := newCluster(t)
	a := newAdmin(t, c)
	_, err := a.PutUnit(t.Context(), api.Unit{Name: "web@.service", Content: "[Service]\nExecStart=/bin/web\n", Desired: "launched"})
	if status := api.AsError(err).Status; status != http.StatusBadRequest {
		t.Errorf("%v: status %d", err, status)
	}
}

// TestManyDistinctUnits: the change of one of 200 units of a host writes one record of a few.
func TestManyDistinctUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		c.join(1)
		_, end := c.lead("node-1")
		defer end()
		for n := range 200 {
			c.submit(fmt.Sprintf("u%03d.service", n), "", store.DesiredLaunched)
		}
		time.Sleep(time.Second)
		before, err := c.Range(t.Context(), store.PrefixSchedule)
		if err != nil || len(before.Items) < 5 {
			t.Fatalf("%d records, %v", len(before.Items), err)
		}
		c.submit("u100.service", "", store.DesiredLoaded)
		time.Sleep(time.Second)
		after, err := c.Range(t.Context(), store.PrefixSchedule)
		if err != nil {
			t.Fatal(err)
		}
		written := 0
		for _, item := range after.Items {
			if item.ModRevision > before.Revision {
				written += len(item.Value)
			}
		}
		if written == 0 || written > store.PartSize+64 || len(c.placed()) != 200 {
			t.Errorf("%d bytes written, %d units placed", written, len(c.placed()))
		}
	})
}
