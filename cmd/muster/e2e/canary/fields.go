package canary

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Field is a field of a struct that holds a secret, by its type or by its name.
type Field struct {
	Package string // its name, as in the sources
	Type    string // name of the struct, and of the fields that lead to it where it is nested: "Config.TLS"
	Name    string
	Key     string // of its tag yaml or json, "" for none
	Typed   bool   // its type says so; else only its name does
}

// String is package.Type.Name.
func (f Field) String() string { return f.Package + "." + f.Type + "." + f.Name }

var (
	// telltale are names of fields that hold a secret, or sound as if they did.
	telltale = regexp.MustCompile(`(?i)(password|passwd|passphrase|secret|token|private_?key|issuer_?key|key_?pem|credential)`)
	// text are types that may hold one.
	text = regexp.MustCompile(`\b(string|byte|RawMessage|Private|any)\b`)
)

// Fields reads the Go sources of a directory, but for tests, and lists the fields of structs whose type contains the type
// secret, written as "secret.Secret", or whose name or key is telltale and whose type may hold text.
func Fields(dir, secret string) ([]Field, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	typed := regexp.MustCompile(`\b` + regexp.QuoteMeta(secret) + `\b`)
	var found []Field
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("cannot read the fields in %s: %w", path, err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				found = append(found, fieldsOf(Field{Package: file.Name.Name, Type: spec.Name.Name}, spec.Type, typed)...)
			}
			return true
		})
	}
	return found, nil
}

// fieldsOf lists the fields of a struct, at has what it is called.
func fieldsOf(at Field, expr ast.Expr, typed *regexp.Regexp) []Field {
	structure, ok := expr.(*ast.StructType)
	if !ok {
		return nil
	}
	var found []Field
	for _, field := range structure.Fields.List {
		at.Key = keyOf(field.Tag)
		goType := types.ExprString(field.Type)
		at.Typed = typed.MatchString(goType)
		for _, name := range namesOf(field, goType) {
			at.Name = name
			if _, nested := field.Type.(*ast.StructType); nested {
				found = append(found, fieldsOf(Field{Package: at.Package, Type: at.Type + "." + name}, field.Type, typed)...)
			} else if at.Typed || text.MatchString(goType) && (telltale.MatchString(name) || telltale.MatchString(at.Key)) {
				found = append(found, at)
			}
		}
	}
	return found
}

// namesOf lists the names that a declaration gives fields of a type; an embedded one is called like its type.
func namesOf(field *ast.Field, goType string) []string {
	var names []string
	for _, name := range field.Names {
		names = append(names, name.Name)
	}
	if len(names) == 0 {
		names = append(names, goType[strings.LastIndexAny(goType, ".*")+1:])
	}
	return slices.Clip(names)
}

// keyOf is the name that a field has in files.
func keyOf(tag *ast.BasicLit) string {
	if tag == nil {
		return ""
	}
	value, err := strconv.Unquote(tag.Value)
	if err != nil {
		return ""
	}
	for _, format := range []string{"yaml", "json"} {
		if key, _, _ := strings.Cut(reflect.StructTag(value).Get(format), ","); key != "" {
			return key
		}
	}
	return ""
}
