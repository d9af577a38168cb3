package release

import "fmt"

// Attack is a way to betray a host that updates itself: TUF specification 1.0.31, section 1.5.2. It is an error, so that
// errors.Is(err, release.Rollback) tells one from another.
type Attack string

// The attacks.
const (
	// ArbitraryInstallation is a file whose bytes are not those that the metadata vouches for.
	ArbitraryInstallation Attack = "arbitrary-installation"
	// EndlessData is an answer longer than it may be.
	EndlessData Attack = "endless-data"
	// ExtraneousDependencies is a file beside a release's that the release does not list.
	ExtraneousDependencies Attack = "extraneous-dependencies"
	// FastForward is a version so high that no later metadata could be newer.
	FastForward Attack = "fast-forward"
	// IndefiniteFreeze is metadata that expired, shown so that nobody hears of something newer.
	IndefiniteFreeze Attack = "indefinite-freeze"
	// KeyCompromise is metadata with fewer good signatures than its role asks for: a key was taken, and others were not.
	KeyCompromise Attack = "key-compromise"
	// MaliciousMirror is a mirror or peer that was refused while another had the truth.
	MaliciousMirror Attack = "malicious-mirror"
	// MixAndMatch is metadata of different times put together.
	MixAndMatch Attack = "mix-and-match"
	// Rollback is metadata or a release older than what this host has seen or may have.
	Rollback Attack = "rollback"
	// SlowRetrieval is an answer so slow that it keeps the host from updates.
	SlowRetrieval Attack = "slow-retrieval"
	// WrongSoftware is a trusted file in the place of another.
	WrongSoftware Attack = "wrong-software"
)

// Attacks are all of them.
var Attacks = []Attack{
	ArbitraryInstallation, EndlessData, ExtraneousDependencies, FastForward, IndefiniteFreeze, KeyCompromise, MaliciousMirror,
	MixAndMatch, Rollback, SlowRetrieval, WrongSoftware,
}

var explanations = map[Attack]string{
	ArbitraryInstallation:  "it is not what the release's metadata vouches for",
	EndlessData:            "it is longer than it may be",
	ExtraneousDependencies: "it brings files that the release does not list",
	FastForward:            "its version leaps, so that nothing later would be newer; the root's owner replaces the key with `muster release rotate`",
	IndefiniteFreeze:       "it has expired; the repository's owner renews it with `muster release refresh`",
	KeyCompromise:          "too few of the keys that the root names have signed it",
	MaliciousMirror:        "another source has the truth",
	MixAndMatch:            "it is of another time than what names it",
	Rollback:               "it is older than what this host has seen or may have",
	SlowRetrieval:          "it comes too slowly",
	WrongSoftware:          "it is other software than was asked for",
}

// Error says what is wrong.
func (a Attack) Error() string { return explanations[a] }

// Event is the type of the event that tells operators of it.
func (a Attack) Event() string { return "release." + string(a) }

// Refusal is what was refused, as an error and as the alarm that the agent reports.
type Refusal struct {
	Attack  Attack
	Subject string // a file of the repository
	Source  string // the mirror's or the peer's URL; empty for what came from several
	Err     error  // the detail; it may be nil
}

// Error implements error.
func (r *Refusal) Error() string {
	from := ""
	if r.Source != "" {
		from = " of " + r.Source
	}
	if r.Err == nil {
		return fmt.Sprintf("cannot trust %s%s: %s", r.Subject, from, r.Attack.Error())
	}
	return fmt.Sprintf("cannot trust %s%s: %s: %v", r.Subject, from, r.Attack.Error(), r.Err)
}

// Unwrap gives the attack and the detail.
func (r *Refusal) Unwrap() []error {
	if r.Err == nil {
		return []error{r.Attack}
	}
	return []error{r.Attack, r.Err}
}
