package cloudconfig

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"net/textproto"
	"strings"
)

// Part is one piece of user-data: a cloud-config, or a script whose first line is `#!`.
type Part struct {
	Name string // as given, or "part 2"; for messages
	Data []byte
}

// Script reports whether the part is a script.
func (p Part) Script() bool { return bytes.HasPrefix(p.Data, []byte("#!")) }

// Bounds on user-data that is opened.
const (
	MaxUserData = 16 << 20 // bytes of a part, decoded
	MaxParts    = 64
)

const (
	typeConfig = "text/cloud-config"
	typeScript = "text/x-shellscript"
)

// Multipart packs parts into a MIME message, as cloud-init and Open read it. Equal parts give equal bytes.
func Multipart(parts []Part) []byte {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	sum := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(sum, "%d %s\n", len(p.Data), p.Data)
	}
	if err := w.SetBoundary("muster-" + hex.EncodeToString(sum.Sum(nil)[:16])); err != nil {
		panic("cloudconfig: " + err.Error()) // it is a valid boundary
	}
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=%q\r\n\r\n", w.Boundary())
	for i, p := range parts {
		kind := typeConfig
		if p.Script() {
			kind = typeScript
		}
		name := p.Name
		if name == "" {
			name = fmt.Sprintf("part-%03d", i+1)
		}
		header := textproto.MIMEHeader{}
		header.Set("Content-Type", mime.FormatMediaType(kind, map[string]string{"charset": "utf-8"}))
		header.Set("Content-Transfer-Encoding", "base64")
		header.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
		to, err := w.CreatePart(header)
		if err == nil {
			err = writeBase64(to, p.Data)
		}
		if err != nil {
			panic("cloudconfig: " + err.Error()) // a buffer takes everything
		}
	}
	_ = w.Close()
	return b.Bytes()
}

// writeBase64 writes lines of 76 characters (RFC 2045 section 6.8).
func writeBase64(w io.Writer, data []byte) error {
	const line = 57
	for len(data) > 0 {
		n := min(line, len(data))
		if _, err := io.WriteString(w, base64.StdEncoding.EncodeToString(data[:n])+"\r\n"); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Open unpacks user-data as a data source gives it: gzip, a MIME message of several parts, a cloud-config or a script.
// Nothing at all has no parts. What a part has that is neither is an error.
func Open(data []byte) ([]Part, error) {
	data, err := inflate(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read the user-data: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	if isMessage(data) {
		parts, err := openMessage(data)
		if err != nil {
			return nil, fmt.Errorf("cannot read the user-data: %w", err)
		}
		return parts, nil
	}
	part := Part{Name: "user-data", Data: data}
	if err := part.check(); err != nil {
		return nil, err
	}
	return []Part{part}, nil
}

// inflate undoes gzip.
func inflate(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		if len(data) > MaxUserData {
			return nil, errors.New("it has more than 16 MiB")
		}
		return data, nil
	}
	out, err := gunzip(data)
	if err != nil {
		return nil, fmt.Errorf("it is no gzip: %w", err)
	}
	return out, nil
}

// isMessage recognises MIME by the header that it must have, which neither a cloud-config nor a script begins with.
func isMessage(data []byte) bool {
	head := strings.ToLower(string(data[:min(len(data), 4096)]))
	return strings.HasPrefix(head, "content-type:") || strings.HasPrefix(head, "mime-version:") ||
		strings.HasPrefix(head, "from ") && strings.Contains(head, "\nmime-version:")
}

func openMessage(data []byte) ([]Part, error) {
	if bytes.HasPrefix(data, []byte("From ")) { // mbox, as cloud-init's own tool once wrote it
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	m, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(kind, "multipart/") {
		return nil, fmt.Errorf("it is `%s`, not multipart/mixed", kind)
	}
	var parts []Part
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		if len(parts) == MaxParts {
			return nil, fmt.Errorf("it has more than %d parts", MaxParts)
		}
		part, err := openPart(p, len(parts)+1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
}

func openPart(p *multipart.Part, number int) (Part, error) {
	part := Part{Name: p.FileName()}
	if part.Name == "" {
		part.Name = fmt.Sprintf("part %d", number)
	}
	var body io.Reader = p
	switch encoding := strings.ToLower(p.Header.Get("Content-Transfer-Encoding")); encoding {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, p)
	case "", "7bit", "8bit", "binary":
	default:
		return Part{}, fmt.Errorf("%s: the encoding `%s` is not known", part.Name, encoding)
	}
	data, err := io.ReadAll(io.LimitReader(body, MaxUserData+1))
	if err == nil {
		data, err = inflate(data)
	}
	if err != nil {
		return Part{}, fmt.Errorf("%s: %w", part.Name, err)
	}
	part.Data = data
	return part, part.check()
}

// check says what a part is instead of a cloud-config or a script.
func (p Part) check() error {
	first, _, _ := bytes.Cut(bytes.TrimPrefix(p.Data, []byte("\ufeff")), []byte("\n"))
	switch head := strings.TrimSpace(string(first)); {
	case head == Header, p.Script():
		return nil
	case strings.HasPrefix(head, "{"):
		return fmt.Errorf("%s: it is JSON, as Ignition reads it; this host reads a cloud-config", p.Name)
	case strings.HasPrefix(head, "#include"), strings.HasPrefix(head, "#part-handler"), strings.HasPrefix(head, "## template:"):
		return fmt.Errorf("%s: `%s` is not supported; make it a cloud-config or a script", p.Name, strings.Fields(head)[0])
	default:
		return fmt.Errorf("%s: it is neither a cloud-config nor a script; make `%s` its first line", p.Name, Header)
	}
}
