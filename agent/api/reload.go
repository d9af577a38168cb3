package api

import (
	"context"
	"net/http"
	"net/url"
)

// Reloaded is what became of reloading one unit on one host.
type Reloaded struct {
	Unit  string `json:"unit"`
	Host  string `json:"host"`            // name
	Error string `json:"error,omitempty"` // why it was not reloaded, with what to do
}

func (s *Server) postReload(w http.ResponseWriter, r *http.Request, _ Caller) error {
	results, err := s.Fleet.Reload(r.Context(), r.PathValue("name"), r.URL.Query().Get("host"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, results)
	return nil
}

// Reload reloads a unit where it runs; host, if it is not empty, is the only one that is asked.
func (c *Client) Reload(ctx context.Context, name, host string) ([]Reloaded, error) {
	path := unitPath(name) + "/reload"
	if host != "" {
		path += "?" + url.Values{"host": {host}}.Encode()
	}
	resp, err := c.do(ctx, request{method: http.MethodPost, path: path, voter: true})
	if err != nil {
		return nil, err
	}
	var results []Reloaded
	return results, decode(resp, &results)
}
