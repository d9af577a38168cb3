package store

import (
	"encoding/json"
	"errors"
	"testing"
)

// formerUpdate and formerHost are the records as the release before this one has them, which knows no rules of who goes when.
type formerUpdate struct {
	V        int `json:"v"`
	Settings struct {
		Source      []string `json:"source,omitempty"`
		Channel     string   `json:"channel,omitempty"`
		AllowOutage bool     `json:"allow_outage,omitempty"`
	} `json:"settings,omitzero"`
	Paused  bool  `json:"paused,omitempty"`
	Resumed int64 `json:"resumed,omitempty"`
}

func (r *formerUpdate) header() *int { return &r.V }

type formerHost struct {
	V       int    `json:"v"`
	Engine  string `json:"engine"`
	Version string `json:"version"`
	Phase   string `json:"phase"`
	Target  string `json:"target,omitempty"`
}

func (r *formerHost) header() *int { return &r.V }

// The release before this one and this one read each other's records. What the older could not keep to it refuses to read, rather
// than to do it wrong.
func TestUpdateRecordsOfTheReleaseBefore(t *testing.T) {
	plain := UpdateRecord{Settings: UpdateSettings{Source: []string{"https://a"}, Channel: "beta", AllowOutage: true}, Paused: true, Resumed: 3}
	data, err := Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	older, err := Unmarshal[formerUpdate](data)
	if err != nil || !older.Paused || older.Resumed != 3 || older.Settings.Channel != "beta" || !older.Settings.AllowOutage {
		t.Errorf("the older reads %+v, %v", older, err)
	}
	older.Paused = false
	if data, err = Marshal(older); err != nil {
		t.Fatal(err)
	}
	if back, err := Unmarshal[UpdateRecord](data); err != nil || back.Paused || back.Resumed != 3 || back.Settings.Ruled() {
		t.Errorf("the newer reads %+v, %v", back, err)
	}
	for _, s := range []UpdateSettings{
		{Windows: []string{"23:00 1h"}}, {Canaries: map[string]string{"a": "b"}}, {PerHour: 10}, {Budget: 1},
	} {
		data, err := Marshal(UpdateRecord{Settings: s})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Unmarshal[formerUpdate](data); !errors.Is(err, ErrVersion) {
			t.Errorf("the older goes by %s: %v", data, err)
		}
		if back, err := Unmarshal[UpdateRecord](data); err != nil || !back.Settings.Ruled() {
			t.Errorf("the newer reads %+v, %v", back, err)
		}
	}
}

func TestUpdateHostRecordsOfTheReleaseBefore(t *testing.T) {
	data, err := Marshal(UpdateHostRecord{Engine: "ab", Version: "1", Phase: "staged", Target: "2", Failed: "1.5", Drain: true})
	if err != nil {
		t.Fatal(err)
	}
	older, err := Unmarshal[formerHost](data)
	if want := (formerHost{V: 1, Engine: "ab", Version: "1", Phase: "staged", Target: "2"}); err != nil || older != want {
		t.Errorf("the older reads %+v, %v", older, err)
	}
	if data, err = json.Marshal(older); err != nil {
		t.Fatal(err)
	}
	if back, err := Unmarshal[UpdateHostRecord](data); err != nil || back.Engine != "ab" || back.Target != "2" || back.Failed != "" {
		t.Errorf("the newer reads %+v, %v", back, err)
	}
}
