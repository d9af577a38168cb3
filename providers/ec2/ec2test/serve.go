package ec2test

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// apiVersion is the version of the API that is spoken.
const apiVersion = "2016-11-15"

// actions are the calls that the cloud answers, by name.
var actions = merged(instanceActions, networkActions, addressActions, storageActions, catalogActions)

func merged(tables ...map[string]action) map[string]action {
	all := map[string]action{}
	for _, table := range tables {
		maps.Copy(all, table)
	}
	return all
}

// ServeHTTP answers one call.
func (c *Cloud) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if c.options.Latency > 0 {
		timer := time.NewTimer(c.options.Latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
			return
		}
	}
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return
	}
	if target := req.Header.Get("X-Amz-Target"); target != "" {
		c.serveSSM(w, req, target, body)
		return
	}
	values, err := url.ParseQuery(string(body))
	if err != nil || req.Method != http.MethodPost {
		fail(w, refuse("MalformedQueryString", "The query string contains a syntax error"))
		return
	}
	if values.Get("Action") == "AssumeRole" {
		c.serveSTS(w, req, values)
		return
	}
	answer, lost, err := c.serve(req, values)
	if lost {
		panic(http.ErrAbortHandler) // the connection ends
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(answer)
}

// serve does what is asked, unless a fault befalls it.
func (c *Cloud) serve(req *http.Request, values url.Values) (answer any, lost bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := Call{Number: len(c.calls) + 1, Action: values.Get("Action")}
	var fault Fault
	if c.options.Faults != nil {
		fault = c.options.Faults(call)
	}
	if fault.Code != "" {
		err = &problem{code: fault.Code, message: "a fault of the test", status: statusOf(fault)}
	} else {
		answer, call.Wrote, err = c.do(req, values)
	}
	if fault.After != "" && err == nil {
		err = &problem{code: fault.After, message: "a fault of the test, after the call was done", status: statusOf(fault)}
	}
	if p := (*problem)(nil); errors.As(err, &p) {
		call.Code = p.code
	}
	c.calls = append(c.calls, call)
	return answer, fault.Lost && call.Wrote, err
}

func statusOf(fault Fault) int {
	if fault.Status == 0 {
		return http.StatusServiceUnavailable
	}
	return fault.Status
}

func (c *Cloud) do(req *http.Request, values url.Values) (answer any, wrote bool, err error) {
	if err := c.signed(req, "ec2"); err != nil {
		return nil, false, err
	}
	name := values.Get("Action")
	a, ok := actions[name]
	switch {
	case !ok:
		return nil, false, refuse("InvalidAction", "The action %s is not valid for this web service", name)
	case values.Get("Version") != apiVersion:
		return nil, false, refuse("InvalidParameterValue", "Version %q is not %s", values.Get("Version"), apiVersion)
	}
	if err := a.check(values); err != nil {
		return nil, false, err
	}
	c.settle()
	r := &request{Cloud: c, action: name, values: values}
	if !a.writes && !a.about {
		if err := r.allow(resource{kind: "*"}); err != nil {
			return nil, false, err
		}
	}
	answer, err = a.do(r)
	c.settle()
	return answer, a.writes && err == nil && !r.repeats, err
}

// signature is the form of AWS's signature, version 4.
var signature = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ` +
	`SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$`)

// signed looks at the signature: whose it is, and for which region and service. It is not verified.
func (c *Cloud) signed(req *http.Request, service string) error {
	parts := signature.FindStringSubmatch(req.Header.Get("Authorization"))
	switch {
	case parts == nil:
		return &problem{code: "MissingAuthenticationToken", message: "Request is missing a signature", status: http.StatusForbidden}
	case parts[1] != c.options.AccessKey:
		return &problem{
			code: "AuthFailure", message: "AWS was not able to validate the provided access credentials", status: http.StatusUnauthorized,
		}
	case parts[3] != c.options.Region || parts[4] != service:
		return &problem{
			code:    "SignatureDoesNotMatch",
			message: "Credential should be scoped to region " + c.options.Region + " and service " + service, status: http.StatusForbidden,
		}
	case !strings.Contains(parts[5], "host") || !strings.Contains(parts[5], "x-amz-date"):
		return &problem{code: "IncompleteSignature", message: "host and x-amz-date have to be signed", status: http.StatusForbidden}
	}
	return nil
}

func fail(w http.ResponseWriter, err error) {
	var p *problem
	if !errors.As(err, &p) {
		p = &problem{code: "InternalError", message: err.Error(), status: http.StatusInternalServerError}
	}
	w.Header().Set("Content-Type", "text/xml;charset=UTF-8")
	w.WriteHeader(p.status)
	_ = xml.NewEncoder(w).Encode(xmlErrors{Code: p.code, Message: p.message, RequestID: "req-" + strconv.Itoa(p.status)})
}
