package spec

import (
	_ "embed"
	"strings"
)

//go:embed starter.yaml
var starter string

// Starter returns a commented cluster file to start from: three hosts over two providers on this machine. name is the
// cluster's (see CheckName).
func Starter(name string) []byte {
	return []byte(strings.Replace(starter, "CLUSTER", name, 1))
}
