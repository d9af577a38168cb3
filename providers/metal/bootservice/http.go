package bootservice

import (
	"bytes"
	"net/http"
	"os"
	"time"

	"github.com/musterhq/muster/providers/metal/dhcp"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// Handler returns what the service serves over HTTP.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+netboot.ScriptPath, s.script)
	mux.HandleFunc("GET "+dhcp.FilesPath+"{name}", s.loader)
	mux.HandleFunc("GET "+ImagesPath+"{name}", s.image)
	return mux
}

// script decides and renders. A HEAD decides nothing, as it would count as a boot.
func (s *Service) script(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "a script is only told to a GET", http.StatusMethodNotAllowed)
		return
	}
	request, err := netboot.ParseQuery(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	log := s.config.Log.With("mac", request.MAC, "arch", request.Arch, "firmware", request.Firmware, "source", r.RemoteAddr)
	boot, err := s.config.Decider.Boot(r.Context(), request)
	if err != nil {
		log.Error("cannot decide what a machine boots", "error", err)
		http.Error(w, "cannot decide what this machine boots: see the boot service's log", http.StatusServiceUnavailable)
		return
	}
	script, err := netboot.Script(boot.Decision, request, boot.System, boot.Task)
	if err != nil {
		log.Error("cannot write a boot script", "action", boot.Action, "error", err)
		http.Error(w, "cannot write the script of this machine: see the boot service's log", http.StatusInternalServerError)
		return
	}
	log.Info("boot", "action", boot.Action, "attempt", boot.Attempt, "reason", boot.Reason)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(script)
}

func (s *Service) loader(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	loader, ok := s.config.Loaders[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	// UEFI tells a program from a disk image by the type: UEFI 2.10, section 24.7.3.2.
	w.Header().Set("Content-Type", "application/efi")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(loader))
}

// image serves a file from the disk. The writer is passed on as it is, so that the kernel copies the bytes.
func (s *Service) image(w http.ResponseWriter, r *http.Request) {
	path, ok := s.config.Images[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	file, err := os.Open(path)
	if err != nil {
		s.config.Log.Error("cannot serve an image", "error", err)
		http.Error(w, "cannot open this image: see the boot service's log", http.StatusInternalServerError)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		s.config.Log.Error("cannot serve an image: it is no regular file", "path", path, "error", err)
		http.Error(w, "cannot read this image: see the boot service's log", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", info.ModTime(), file)
}
