package join

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/musterhq/muster/cluster/pki"
)

// SaveVoter stores, after checking it, what a member needs to vote that was not told so when it joined. It votes when the
// last of the files, reply.json, is there.
func (s Storage) SaveVoter(cfg Config, role VoterRole) error {
	if err := role.check(cfg); err != nil {
		return err
	}
	s.record.Lock()
	defer s.record.Unlock()
	record, err := s.loadRecord()
	if err != nil {
		return err
	}
	if err := pki.WriteFile(s.issuerCertFile(), []byte(role.IssuerCertificate)); err != nil {
		return err
	}
	if err := pki.WriteFile(s.issuerKeyFile(), []byte(role.IssuerKey)); err != nil {
		return err
	}
	role.IssuerCertificate, role.IssuerKey = "", ""
	record.Voter = &role
	return s.saveRecord(record)
}

// DropVoter forgets what a voter has beyond other members: its role first, then its credentials. It may be repeated, which
// completes what a crash left.
func (s Storage) DropVoter() error {
	s.record.Lock()
	defer s.record.Unlock()
	record, err := s.loadRecord()
	if err != nil {
		return err
	}
	if record.Voter != nil {
		record.Voter = nil
		if err := s.saveRecord(record); err != nil {
			return err
		}
	}
	for _, file := range []string{s.issuerKeyFile(), s.issuerCertFile(), s.PeerFile(), s.ControlFile()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot forget a voter's credentials: %w", err)
		}
	}
	return nil
}
