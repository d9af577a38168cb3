package fleetapi

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"strings"
)

// pageLimit is how many items a page has.
const pageLimit = 100

// pageToken says which page is asked for, from 1, and how long pages are. On the wire it is base64url of the two as
// little-endian uint16, limit first (COMPAT: fleet API).
type pageToken struct{ limit, page uint16 }

func (t pageToken) String() string {
	b := binary.LittleEndian.AppendUint16(nil, t.limit)
	return base64.URLEncoding.EncodeToString(binary.LittleEndian.AppendUint16(b, t.page))
}

// parseToken reads a token, with or without padding.
func parseToken(text string) (pageToken, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) != 4 {
		return pageToken{}, badRequest("nextPageToken %q is not one that this server gives", text)
	}
	t := pageToken{limit: binary.LittleEndian.Uint16(b), page: binary.LittleEndian.Uint16(b[2:])}
	switch {
	case t.limit != pageLimit:
		return t, badRequest("nextPageToken is for pages of %d, this server's have %d", t.limit, pageLimit)
	case t.page == 0:
		return t, badRequest("nextPageToken is for page 0; pages count from 1")
	}
	return t, nil
}

// pageOf is the part of all that a request asks for, and the token of the next page, "" after the last.
func pageOf[T any](r *http.Request, all []T) (page []T, next string, err error) {
	begin, end, next, err := pageAt(r, len(all))
	return all[begin:end], next, err
}

// pageAt is pageOf for so many items that are not made yet: it returns which of them are on the page.
func pageAt(r *http.Request, total int) (begin, end int, next string, err error) {
	t := pageToken{limit: pageLimit, page: 1}
	if text := r.URL.Query().Get("nextPageToken"); text != "" {
		if t, err = parseToken(text); err != nil {
			return 0, 0, "", err
		}
	}
	begin = min((int(t.page)-1)*pageLimit, total)
	end = min(begin+pageLimit, total)
	if end < total && t.page < math.MaxUint16 {
		next = pageToken{limit: pageLimit, page: t.page + 1}.String()
	}
	return begin, end, next, nil
}
