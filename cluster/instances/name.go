package instances

import (
	"strconv"
	"strings"
)

// Name is the name of a template's instance with a number: web@7.service for web@.service and 7.
func Name(template string, number int) string {
	at := strings.IndexByte(template, '@') + 1
	return template[:at] + strconv.Itoa(number) + template[at:]
}

// Split takes a name apart again: web@.service and 7 for web@7.service. It is false for all other names, web@07.service
// among them.
func Split(name string) (template string, number int, ok bool) {
	at, dot := strings.IndexByte(name, '@'), strings.LastIndexByte(name, '.')
	if at < 0 || dot < at || !isNumber(name[at+1:dot]) {
		return "", 0, false
	}
	number, err := strconv.Atoi(name[at+1 : dot])
	if err != nil || number > Max {
		return "", 0, false
	}
	return name[:at+1] + name[dot:], number, true
}

// isNumber is true for decimals from 1, without leading zeros.
func isNumber(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && s[0] != '0'
}
