package pki

import (
	"crypto/tls"
	"crypto/x509"
)

// ServerConfig is for a TLS 1.3 server that shows src and verifies clients, if clientAuth says so, against the root
// alone. Sessions are not resumed: every connection shows a certificate that is valid now.
func ServerConfig(root *x509.Certificate, src *Source, clientAuth tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         src.GetCertificate,
		ClientCAs:              pool(root),
		ClientAuth:             clientAuth,
		SessionTicketsDisabled: true,
	}
}

// ClientConfig is for a TLS 1.3 client that verifies the server's chain against the root alone and its certificate for
// serverName (JoinName, VoterName, HostName of a host; "" for the address that is dialled). src may be nil for a client
// that has no certificate yet.
func ClientConfig(root *x509.Certificate, src *Source, serverName string) *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    pool(root),
		ServerName: serverName,
	}
	if src != nil {
		config.GetClientCertificate = src.GetClientCertificate
	}
	return config
}
