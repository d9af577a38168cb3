// Package redfishtest is a double of a Redfish service with one machine, written from DSP0266 and DMTF's schemas of
// ComputerSystem, Manager and VirtualMedia. It is strict: a request that it does not know fails the test.
package redfishtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/musterhq/muster/providers/metal/bmc"
)

// User and Password are what the service takes.
const (
	User     = "operator"
	Password = "right"
)

// Options make a service differ from the plainest.
type Options struct {
	OldMedia   bool     // virtual media is the manager's, not the system's
	ActionInfo bool     // the kinds of reset are told by a resource of their own
	NoMode     bool     // the system has one kind of firmware
	Resets     []string // the kinds of reset; all that are common by default
	Systems    int      // how many there are, 1 by default; the first is the machine
}

// Service is a running double.
type Service struct {
	URL         string
	Certificate string // its SHA-256

	t       testing.TB
	options Options
	mu      sync.Mutex
	on      bool
	resets  int
	target  string // of the next boot
	mode    string
	image   string
	fault   int // status that everything answers with, 0 for none
}

// New starts a service that runs until the test ends. The machine is off.
func New(t testing.TB, options Options) *Service {
	t.Helper()
	if options.Resets == nil {
		options.Resets = []string{"On", "ForceOff", "GracefulShutdown", "ForceRestart"}
	}
	options.Systems = max(options.Systems, 1)
	s := &Service{t: t, options: options}
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	server.StartTLS()
	t.Cleanup(server.Close)
	sum := sha256.Sum256(server.Certificate().Raw)
	s.URL, s.Certificate = server.URL, hex.EncodeToString(sum[:])
	return s
}

// On tells whether the machine runs.
func (s *Service) On() bool { return get(s, func() bool { return s.on }) }

// Resets is how often it was restarted.
func (s *Service) Resets() int { return get(s, func() int { return s.resets }) }

// Mode is the firmware that the next boot was asked for: UEFI, Legacy, or nothing.
func (s *Service) Mode() string { return get(s, func() string { return s.mode }) }

// Image is what is inserted.
func (s *Service) Image() string { return get(s, func() string { return s.image }) }

// Next is the device of the next boot.
func (s *Service) Next() bmc.Device {
	return get(s, func() bmc.Device {
		return map[string]bmc.Device{"Pxe": bmc.Network, "Hdd": bmc.Disk, "Cd": bmc.Media}[s.target]
	})
}

// Fail makes everything but the root answer with a status, until it is 0.
func (s *Service) Fail(status int) { get(s, func() any { s.fault = status; return nil }) }

func get[T any](s *Service, read func() T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return read()
}

// object is a JSON object.
type object = map[string]any

func link(path string) object { return object{"@odata.id": path} }

const (
	root    = "/redfish/v1/"
	systems = "/redfish/v1/Systems"
	machine = systems + "/1"
	manager = "/redfish/v1/Managers/1"
)

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := strings.TrimSuffix(r.URL.Path, "/")
	if path != strings.TrimSuffix(root, "/") {
		user, password, _ := r.BasicAuth()
		switch {
		case user != User || password != Password:
			refuse(w, http.StatusUnauthorized, "the credentials are wrong")
			return
		case s.fault != 0:
			refuse(w, s.fault, "the service is told to fail")
			return
		}
	}
	switch r.Method {
	case http.MethodGet:
		s.read(w, path)
	case http.MethodPatch, http.MethodPost:
		var body object
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			s.unknown(w, r.Method+" "+path+": "+err.Error())
			return
		}
		s.change(w, r, path, body)
	default:
		s.unknown(w, r.Method+" "+path)
	}
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(object{"error": object{"code": "Base.1.8.GeneralError", "message": message}})
}

func (s *Service) unknown(w http.ResponseWriter, what string) {
	s.t.Errorf("the service does not know %s", what)
	refuse(w, http.StatusNotFound, "there is no such thing")
}

func (s *Service) read(w http.ResponseWriter, path string) {
	home := machine
	if s.options.OldMedia {
		home = manager
	}
	answers := map[string]func() object{
		strings.TrimSuffix(root, "/"): func() object {
			return object{"@odata.id": root, "Id": "RootService", "RedfishVersion": "1.8.0", "Systems": link(systems), "Managers": link("/redfish/v1/Managers")}
		},
		systems:                s.systems,
		machine:                s.system,
		systems + "/2":         func() object { return object{"@odata.id": systems + "/2", "Id": "2", "PowerState": "Off"} },
		machine + "/ResetInfo": s.resetInfo,
		manager: func() object {
			return s.withMedia(object{"@odata.id": manager, "Id": "1"}, s.options.OldMedia, manager)
		},
		home + "/VirtualMedia":    func() object { return collection(home+"/VirtualMedia", "Usb", "Cd") },
		home + "/VirtualMedia/Cd": func() object { return s.drive(home+"/VirtualMedia/Cd", "CD", "DVD") },
		home + "/VirtualMedia/Usb": func() object {
			return s.drive(home+"/VirtualMedia/Usb", "USBStick")
		},
	}
	answer, ok := answers[path]
	if !ok {
		s.unknown(w, "GET "+path)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer())
}

func collection(path string, names ...string) object {
	members := []object{}
	for _, name := range names {
		members = append(members, link(path+"/"+name))
	}
	return object{"@odata.id": path, "Members": members, "Members@odata.count": len(members)}
}

func (s *Service) systems() object {
	return collection(systems, []string{"1", "2"}[:s.options.Systems]...)
}

func (s *Service) system() object {
	power := "Off"
	if s.on {
		power = "On"
	}
	boot := object{"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}
	if s.target != "" {
		boot = object{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": s.target}
	}
	if !s.options.NoMode {
		boot["BootSourceOverrideMode"] = "UEFI"
	}
	reset := object{"target": machine + "/Actions/ComputerSystem.Reset"}
	if s.options.ActionInfo {
		reset["@Redfish.ActionInfo"] = machine + "/ResetInfo"
	} else {
		reset["ResetType@Redfish.AllowableValues"] = s.options.Resets
	}
	return s.withMedia(object{
		"@odata.id": machine, "Id": "1", "PowerState": power, "Boot": boot, "Actions": object{"#ComputerSystem.Reset": reset},
		"Links": object{"ManagedBy": []object{link(manager)}},
	}, !s.options.OldMedia, machine)
}

func (s *Service) withMedia(o object, has bool, path string) object {
	if has {
		o["VirtualMedia"] = link(path + "/VirtualMedia")
	}
	return o
}

func (s *Service) resetInfo() object {
	return object{"@odata.id": machine + "/ResetInfo", "Id": "ResetInfo", "Parameters": []object{
		{"Name": "ResetType", "Required": true, "DataType": "String", "AllowableValues": s.options.Resets},
	}}
}

func (s *Service) drive(path string, types ...string) object {
	drive := object{
		"@odata.id": path, "Id": path[strings.LastIndex(path, "/")+1:], "MediaTypes": types, "Inserted": false, "Image": nil,
		"Actions": object{
			"#VirtualMedia.InsertMedia": object{"target": path + "/Actions/VirtualMedia.InsertMedia"},
			"#VirtualMedia.EjectMedia":  object{"target": path + "/Actions/VirtualMedia.EjectMedia"},
		},
	}
	if slices.Contains(types, "CD") && s.image != "" {
		drive["Inserted"], drive["Image"] = true, s.image
	}
	return drive
}

func (s *Service) change(w http.ResponseWriter, r *http.Request, path string, body object) {
	home := machine
	if s.options.OldMedia {
		home = manager
	}
	var refusal string
	switch r.Method + " " + path {
	case "POST " + machine + "/Actions/ComputerSystem.Reset":
		refusal = s.reset(body)
	case "PATCH " + machine:
		refusal = s.setBoot(body)
	case "POST " + home + "/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia":
		if s.image != "" {
			refusal = "there is an image already"
		}
		s.image, _ = body["Image"].(string)
	case "POST " + home + "/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia":
		s.image = ""
	default:
		s.unknown(w, r.Method+" "+path)
		return
	}
	if refusal != "" {
		refuse(w, http.StatusBadRequest, refusal)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Service) reset(body object) string {
	kind, _ := body["ResetType"].(string)
	if len(body) != 1 || !slices.Contains(s.options.Resets, kind) {
		return "this kind of reset is not known: " + kind
	}
	switch kind {
	case "On", "ForceOn":
		if s.on {
			return "it is on"
		}
		s.on = true
	case "PushPowerButton":
		s.on = !s.on
	case "ForceOff":
		if !s.on {
			return "it is off"
		}
		s.on = false
	case "ForceRestart", "PowerCycle":
		if !s.on {
			return "it is off"
		}
		s.resets++
	}
	return ""
}

func (s *Service) setBoot(body object) string {
	boot, ok := body["Boot"].(object)
	if !ok || len(body) != 1 {
		return "only Boot can be changed"
	}
	target, _ := boot["BootSourceOverrideTarget"].(string)
	mode, hasMode := boot["BootSourceOverrideMode"].(string)
	switch {
	case boot["BootSourceOverrideEnabled"] != "Once":
		return "BootSourceOverrideEnabled is to be Once"
	case !slices.Contains([]string{"Pxe", "Hdd", "Cd"}, target):
		return "this target is not known: " + target
	case hasMode && (s.options.NoMode || mode != "UEFI" && mode != "Legacy"):
		return "this mode is not known: " + mode
	}
	for key := range boot {
		if !slices.Contains([]string{"BootSourceOverrideEnabled", "BootSourceOverrideTarget", "BootSourceOverrideMode"}, key) {
			return "this property is not known: " + key
		}
	}
	s.target, s.mode = target, mode
	return ""
}
