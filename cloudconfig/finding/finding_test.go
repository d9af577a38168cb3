package finding_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/musterhq/muster/cloudconfig/finding"
)

func TestFindingsAreOneSortedError(t *testing.T) {
	var none finding.Findings
	if err := none.Err(); err != nil {
		t.Errorf("no findings are the error %v", err)
	}
	var fs finding.Findings
	fs.Add(finding.Position{File: "b.yaml", Line: 1, Column: 1}, "", "five")
	fs.Add(finding.Position{File: "a.yaml", Line: 10, Column: 2}, "", "four")
	fs.Add(finding.Position{File: "a.yaml", Line: 9, Column: 7}, "did you mean `count`?", "unknown key `%s`", "conut")
	fs.Add(finding.Position{File: "a.yaml", Line: 9, Column: 1}, "", "two")
	fs.Add(finding.Position{File: "a.yaml"}, "", "one")
	fs.Add(finding.Position{}, "", "nowhere")
	want := "nowhere\n" +
		"a.yaml: one\n" +
		"a.yaml:9:1: two\n" +
		"a.yaml:9:7: unknown key `conut`; did you mean `count`?\n" +
		"a.yaml:10:2: four\n" +
		"b.yaml:1:1: five"
	wrapped := fmt.Errorf("cannot read: %w", fs.Err())
	var got finding.Findings
	if !errors.As(wrapped, &got) || got.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", got, want)
	}
}

func TestPosition(t *testing.T) {
	for want, p := range map[string]finding.Position{
		"":      {},
		"f":     {File: "f", Column: 3},
		"f:1":   {File: "f", Line: 1},
		"f:1:2": {File: "f", Line: 1, Column: 2},
	} {
		if got := p.String(); got != want {
			t.Errorf("%#v prints %q, want %q", p, got, want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	keys := []string{"count", "provider", "spread", "labels", "voter", "cloud_config", "env"}
	for got, want := range map[string]string{
		"conut":       "did you mean `count`?", // a swap is one edit
		"Count":       "did you mean `count`?",
		"providers":   "did you mean `provider`?",
		"cloudconfig": "did you mean `cloud_config`?",
		"cloud-conf":  "did you mean `cloud_config`?",
		"voters":      "did you mean `voter`?",
		"en":          "did you mean `env`?",
		"replicas":    "",
		"x":           "",
		"":            "",
	} {
		if hint := finding.DidYouMean(got, keys); hint != want {
			t.Errorf("for %q: %q, want %q", got, hint, want)
		}
	}
	if hint := finding.DidYouMean("count", nil); hint != "" {
		t.Errorf("without candidates: %q", hint)
	}
}
