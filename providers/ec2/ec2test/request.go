package ec2test

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// problem is an error of the API.
type problem struct {
	code, message string
	status        int
}

func (p *problem) Error() string { return p.code + ": " + p.message }

func refuse(code, format string, args ...any) *problem {
	return &problem{code: code, message: fmt.Sprintf(format, args...), status: http.StatusBadRequest}
}

func missing(name string) *problem {
	return refuse("MissingParameter", "The request must contain the parameter %s", name)
}

// action is a call that the cloud knows.
type action struct {
	params []string // patterns: "Filter.#.Value.#"; with "!" at the end one that must be there, with ":int" or ":bool" its form
	writes bool
	about  bool // a read that is about one resource, which a policy may choose
	do     func(*request) (any, error)
}

// request is one call.
type request struct {
	*Cloud
	action  string
	values  url.Values
	prefix  string // of nested parameters
	repeats bool   // answered with what an earlier request made
}

var index = regexp.MustCompile(`\.\d+`)

// check refuses parameters that the action does not have, that are missing or of the wrong form, and gaps in lists.
func (a action) check(values url.Values) error {
	known := map[string]string{"Action": "", "Version": "", "DryRun": "bool"}
	for _, pattern := range a.params {
		name, form, _ := strings.Cut(strings.TrimSuffix(pattern, "!"), ":")
		known[name] = form
		if strings.HasSuffix(pattern, "!") && !slices.ContainsFunc(slices.Collect(maps.Keys(values)), func(given string) bool {
			return index.ReplaceAllString(given, ".#") == name
		}) {
			return missing(strings.TrimSuffix(name, ".#"))
		}
	}
	for name, given := range values {
		form, ok := known[index.ReplaceAllString(name, ".#")]
		if !ok {
			return refuse("UnknownParameter", "The parameter %s is not recognized", name)
		}
		if len(given) != 1 {
			return refuse("InvalidParameterCombination", "The parameter %s is given %d times", name, len(given))
		}
		if err := checkForm(name, given[0], form); err != nil {
			return err
		}
		if err := checkGaps(name, values); err != nil {
			return err
		}
	}
	return nil
}

func checkForm(name, value, form string) error {
	switch form {
	case "int":
		if _, err := strconv.Atoi(value); err != nil {
			return refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected an integer", value, name)
		}
	case "bool":
		if value != "true" && value != "false" {
			return refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected a boolean", value, name)
		}
	case "time":
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			return refuse("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected a time", value, name)
		}
	}
	return nil
}

// checkGaps makes sure that the items of a list are numbered from 1 without a gap.
func checkGaps(name string, values url.Values) error {
	for _, at := range index.FindAllStringIndex(name, -1) {
		n, _ := strconv.Atoi(name[at[0]+1 : at[1]])
		if n == 0 {
			return refuse("InvalidParameterValue", "The list of %s begins with 1", name)
		}
		if n == 1 {
			continue
		}
		before := fmt.Sprintf("%s.%d", name[:at[0]], n-1)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(values)), func(other string) bool {
			return other == before || strings.HasPrefix(other, before+".")
		}) {
			return refuse("InvalidParameterValue", "The list of %s has a gap", name)
		}
	}
	return nil
}

func (r *request) str(name string) string { return r.values.Get(r.prefix + name) }

func (r *request) has(name string) bool { return r.values.Has(r.prefix + name) }

func (r *request) flag(name string) bool { return r.str(name) == "true" }

func (r *request) number(name string, otherwise int) int {
	n, err := strconv.Atoi(r.str(name))
	if err != nil {
		return otherwise
	}
	return n
}

// list reads NAME.1, NAME.2 and so on.
func (r *request) list(name string) []string {
	var all []string
	for n := 1; r.has(fmt.Sprintf("%s.%d", name, n)); n++ {
		all = append(all, r.str(fmt.Sprintf("%s.%d", name, n)))
	}
	return all
}

// items are the structures NAME.1.*, NAME.2.* and so on.
func (r *request) items(name string) []*request {
	var all []*request
	for n := 1; ; n++ {
		prefix := fmt.Sprintf("%s%s.%d.", r.prefix, name, n)
		if !slices.ContainsFunc(slices.Collect(maps.Keys(r.values)), func(given string) bool { return strings.HasPrefix(given, prefix) }) {
			return all
		}
		item := *r
		item.prefix = prefix
		all = append(all, &item)
	}
}

// filter is one filter of a describe: any of the values, which may have wildcards.
type filter struct {
	name   string
	values []string
}

// filters reads the filters; known are the names that the action has, "tag:" for any tag.
func (r *request) filters(known ...string) ([]filter, error) {
	var all []filter
	for _, item := range r.items("Filter") {
		f := filter{name: item.str("Name"), values: item.list("Value")}
		name := f.name
		if strings.HasPrefix(name, "tag:") {
			name = "tag:"
		}
		if !slices.Contains(known, name) {
			return nil, refuse("InvalidParameterValue", "The filter '%s' is invalid", f.name)
		}
		if len(f.values) == 0 {
			return nil, refuse("InvalidParameterValue", "The filter '%s' has no value", f.name)
		}
		all = append(all, f)
	}
	return all, nil
}

// matches tells whether something passes all filters. value gives the values of a name that is not a tag.
func matches(filters []filter, tags map[string]string, value func(name string) []string) bool {
	for _, f := range filters {
		var have []string
		if key, isTag := strings.CutPrefix(f.name, "tag:"); isTag {
			if v, ok := tags[key]; ok {
				have = []string{v}
			}
		} else {
			have = value(f.name)
		}
		if !slices.ContainsFunc(f.values, func(pattern string) bool {
			return slices.ContainsFunc(have, func(v string) bool { return wild(pattern, v) })
		}) {
			return false
		}
	}
	return true
}

// wild matches a pattern with * and ?.
func wild(pattern, text string) bool {
	for ; pattern != ""; pattern, text = pattern[1:], text[1:] {
		switch {
		case pattern[0] == '*':
			for i := range len(text) + 1 {
				if wild(pattern[1:], text[i:]) {
					return true
				}
			}
			return false
		case text == "" || pattern[0] != '?' && pattern[0] != text[0]:
			return false
		}
	}
	return text == ""
}

// page cuts a list as MaxResults and NextToken say. least and most are what the action takes as MaxResults.
func page[T any](r *request, all []T, least, most int) (part []T, next string, err error) {
	from := 0
	if token := r.str("NextToken"); token != "" {
		if from, err = strconv.Atoi(strings.TrimPrefix(token, "page-")); err != nil || from > len(all) {
			return nil, "", refuse("InvalidNextToken", "The token %s is not one of mine", token)
		}
	}
	size := len(all)
	if r.has("MaxResults") {
		size = r.number("MaxResults", 0)
		if size < least || size > most {
			return nil, "", refuse("InvalidParameterValue", "MaxResults is %d, not between %d and %d", size, least, most)
		}
		if r.options.MaxPage > 0 {
			size = min(size, r.options.MaxPage)
		}
	}
	to := min(from+size, len(all))
	if to < len(all) {
		next = fmt.Sprintf("page-%d", to)
	}
	return all[from:to], next, nil
}

// tagSpecs reads TagSpecification by kind; kinds are those that the action makes.
func (r *request) tagSpecs(kinds ...string) (map[string]map[string]string, error) {
	specs := map[string]map[string]string{}
	for _, item := range r.items("TagSpecification") {
		kind := item.str("ResourceType")
		if !slices.Contains(kinds, kind) {
			return nil, refuse("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation", kind)
		}
		if specs[kind] != nil {
			return nil, refuse("InvalidParameterValue", "Duplicate TagSpecification for '%s'", kind)
		}
		tags, err := item.tags()
		if err != nil {
			return nil, err
		}
		if len(tags) == 0 {
			return nil, refuse("MissingParameter", "The TagSpecification for '%s' has no tags", kind)
		}
		specs[kind] = tags
	}
	return specs, nil
}

// tags reads Tag by EC2's rules.
func (r *request) tags() (map[string]string, error) {
	tags := map[string]string{}
	for _, item := range r.items("Tag") {
		key, value := item.str("Key"), item.str("Value")
		switch {
		case key == "" || len([]rune(key)) > 127:
			return nil, refuse("InvalidParameterValue", "Tag key '%s' has a wrong length", key)
		case len([]rune(value)) > 256:
			return nil, refuse("InvalidParameterValue", "The value of tag '%s' is too long", key)
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return nil, refuse("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		}
		if _, twice := tags[key]; twice {
			return nil, refuse("InvalidParameterValue", "Duplicate tag key '%s' specified", key)
		}
		tags[key] = value
	}
	if len(tags) > 50 {
		return nil, refuse("TagLimitExceeded", "The maximum number of Tags for a resource has been reached")
	}
	return tags, nil
}

// dryRun ends a call that would do.
func (r *request) dryRun() error {
	if !r.flag("DryRun") {
		return nil
	}
	return &problem{
		code: "DryRunOperation", message: "Request would have succeeded, but DryRun flag is set.", status: http.StatusPreconditionFailed,
	}
}

// The forms of an answer.
type (
	xmlTag struct {
		Key   string `xml:"key"`
		Value string `xml:"value"`
	}
	xmlErrors struct {
		XMLName   xml.Name `xml:"Response"`
		Code      string   `xml:"Errors>Error>Code"`
		Message   string   `xml:"Errors>Error>Message"`
		RequestID string   `xml:"RequestID"`
	}
)

func xmlTags(tags map[string]string) []xmlTag {
	var list []xmlTag
	for key, value := range tags {
		list = append(list, xmlTag{key, value})
	}
	slices.SortFunc(list, func(a, b xmlTag) int { return strings.Compare(a.Key, b.Key) })
	return list
}
