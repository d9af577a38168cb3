package join

import (
	"context"
	"crypto"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// Admitter decides about hosts that ask to join. The operator's keeps tokens on disk, a voter's in the store.
type Admitter interface {
	// Admit redeems the request's token (see Redeem) and signs a certificate for pub. A repeated request with the same key
	// gets an equivalent reply. It returns one of the package's errors when the host is refused or has to ask again; any
	// other is reported to the host without its text. remote is the address of the host's end of the connection.
	Admit(ctx context.Context, req Request, pub crypto.PublicKey, remote netip.Addr) (Reply, error)
}

// Handler serves POST /v1/join. Requests are bounded to 64 KiB and 10 seconds; clients need no certificate.
func Handler(admitter Admitter, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			respond(w, http.StatusMethodNotAllowed, wireError{Message: "only POST is served here"})
			return
		}
		// A slow request must not hold the connection; servers that cannot set a deadline have set one themselves.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(admitTimeout))
		reply, err := admit(r, admitter, log)
		if err != nil {
			ref := refusalOf(err)
			if ref.status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", strconv.Itoa(1))
			}
			respond(w, ref.status, wireError{Message: ref.err.Error(), Hint: ref.hint, Code: ref.code})
			return
		}
		respond(w, http.StatusOK, reply)
	})
}

func admit(r *http.Request, admitter Admitter, log *slog.Logger) (Reply, error) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		log.Error("cannot tell who asks to join", "remote", r.RemoteAddr, "error", err)
		return Reply{}, errInternal.err
	}
	req, pub, err := decodeRequest(r.Body)
	if err != nil {
		log.Warn("refused a join request", "remote", remote, "error", err)
		return Reply{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), admitTimeout)
	defer cancel()
	reply, err := admitter.Admit(ctx, req, pub, remote.Addr().Unmap())
	if err != nil {
		log.Warn("did not admit host", "host", req.Host, "id", req.HostID, "remote", remote, "error", err)
		return Reply{}, err
	}
	log.Info("admitted host", "host", req.Host, "id", req.HostID, "remote", remote, "voter", reply.Voter != nil)
	return reply, nil
}

func respond(w http.ResponseWriter, status int, body any) {
	raw, err := json.Marshal(body)
	if err != nil { // every body here is a plain struct
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(status)
	_, _ = w.Write(raw) // a host that went away asks again
}
