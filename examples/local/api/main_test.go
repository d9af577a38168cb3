package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"
)

func TestTellsWhoItIs(t *testing.T) {
	w := httptest.NewRecorder()
	handler("3", "node-2").ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), "GET", "/orders", nil))
	var got reply
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if want := (reply{Instance: "3", Host: "node-2", Path: "/orders"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
