package hcloudtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// The rules of names and labels (API reference, "Labels"; names of servers are host names, RFC 1123).
var (
	labelKey   = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$`)
	hostLabel  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

const (
	maxHostName  = 253
	maxGroupName = 128
	maxPerPage   = 50
)

func checkLabels(labels *map[string]string) *refusal {
	if labels == nil {
		return nil
	}
	for key, value := range *labels {
		if !labelKey.MatchString(key) || strings.HasPrefix(key, "hetzner.cloud/") || !labelValue.MatchString(value) {
			return invalid("labels", "label %q=%q is not one", key, value)
		}
	}
	return nil
}

func checkHostName(name string) *refusal {
	if len(name) > maxHostName {
		return invalid("name", "is too long")
	}
	for label := range strings.SplitSeq(name, ".") {
		if !hostLabel.MatchString(label) {
			return invalid("name", "invalid hostname %q", name)
		}
	}
	return nil
}

func taken(field string) *refusal {
	return &refusal{http.StatusConflict, "uniqueness_error", field + " is already used", map[string]string{"name": "not unique"}}
}

// read decodes a body, in which nothing may be unknown.
func read[T any](r *http.Request) (body T, refused *refusal) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil {
		return body, &refusal{http.StatusBadRequest, "json_error", err.Error(), nil}
	}
	return body, nil
}

func pathID(r *http.Request) int64 {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	return id
}

// query is what a list is asked for.
type query struct {
	page, perPage int
	params        url.Values
	labels        []requirement
}

type requirement struct {
	key, value string
	any        bool // whatever the value is
}

// readQuery reads the parameters of a list, of which only those of paging, order and labels and some more are known.
func readQuery(r *http.Request, known ...string) (query, *refusal) {
	q := query{page: 1, perPage: 25, params: r.URL.Query()}
	known = append(known, "page", "per_page", "label_selector", "sort")
	for key, values := range q.params {
		if !slices.Contains(known, key) {
			return q, invalid(key, "unknown parameter")
		}
		for _, value := range values {
			if value == "" {
				return q, invalid(key, "is empty")
			}
		}
	}
	for key, number := range map[string]*int{"page": &q.page, "per_page": &q.perPage} {
		if text := q.params.Get(key); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 || key == "per_page" && n > maxPerPage {
				return q, invalid(key, "%q is not one", text)
			}
			*number = n
		}
	}
	for _, order := range q.params["sort"] {
		if !slices.Contains([]string{"id", "id:asc"}, order) {
			return q, invalid("sort", "this test cloud sorts by ID alone")
		}
	}
	return q, q.readSelector()
}

// readSelector reads key, key=value and key==value with commas between them.
func (q *query) readSelector() *refusal {
	text := q.params.Get("label_selector")
	if text == "" {
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, equal := strings.Cut(part, "=")
		value = strings.TrimPrefix(value, "=")
		if !labelKey.MatchString(key) || !labelValue.MatchString(value) {
			return invalid("label_selector", "%q is not one", text)
		}
		q.labels = append(q.labels, requirement{key, value, !equal})
	}
	return nil
}

func (q *query) selects(labels map[string]string) bool {
	return !slices.ContainsFunc(q.labels, func(r requirement) bool {
		value, there := labels[r.key]
		return !there || !r.any && value != r.value
	})
}

// item is what lists are made of.
type item struct {
	id      int64
	name    string
	labels  map[string]string
	created time.Time // zero: from the beginning
	shown   any
}

// list answers a page.
func (c *Cloud) list(key string, q query, all []item) (int, any, *refusal) {
	all = slices.DeleteFunc(all, func(i item) bool {
		return !q.selects(i.labels) || q.params.Has("name") && i.name != q.params.Get("name") ||
			!i.created.IsZero() && time.Since(i.created) < c.Hide
	})
	slices.SortFunc(all, func(a, b item) int { return int(a.id - b.id) })
	meta := schema.MetaPagination{Page: q.page, PerPage: q.perPage, TotalEntries: len(all), LastPage: max((len(all)+q.perPage-1)/q.perPage, 1)}
	begin := min((q.page-1)*q.perPage, len(all))
	end := min(begin+q.perPage, len(all))
	if end < len(all) {
		meta.NextPage = q.page + 1
	}
	shown := []any{}
	for _, each := range all[begin:end] {
		shown = append(shown, each.shown)
	}
	return http.StatusOK, map[string]any{key: shown, "meta": map[string]any{"pagination": meta}}, nil
}
