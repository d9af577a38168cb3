package spec_test

import (
	"encoding/json"
	"testing"

	"github.com/musterhq/muster/cloudconfig/golden"
	"github.com/musterhq/muster/cluster/spec"
)

func TestSchema(t *testing.T) {
	got, err := spec.Schema(registry())
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/schema.json", got)
	if !json.Valid(got) {
		t.Error("the schema is no JSON")
	}
}
