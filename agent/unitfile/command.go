package unitfile

import (
	"fmt"
	"strings"
)

// Command is one command line of an Exec setting (systemd.service(5), "Command lines"), cut into words.
type Command struct {
	Path string   // what to execute; without a slash it is looked up
	Args []string // without the name of the program
	// Argv0 is what the program is told as its name, "" for Path (prefix @).
	Argv0         string
	IgnoreFailure bool // prefix -: an exit status other than 0 counts as success
	Literal       bool // prefix :, variables are not substituted
	Privileged    bool // prefix + or !: User= does not apply
}

// ParseCommands cuts the value of an Exec setting into command lines; several are separated by a word of its own `;`.
// Errors are *SyntaxError.
func ParseCommands(line string) ([]Command, error) {
	commands, _, err := parseCommands(line)
	return commands, err
}

// parseCommands also returns the offsets of escapes that mean nothing.
func parseCommands(line string) (commands []Command, odd []int, err error) {
	words, err := splitWords(line)
	if err != nil {
		return nil, nil, err
	}
	for len(words) > 0 {
		n := 0
		for n < len(words) && words[n].raw != ";" {
			odd = append(odd, words[n].odd...)
			n++
		}
		if n > 0 {
			c, err := command(words[:n])
			if err != nil {
				return nil, nil, err
			}
			commands = append(commands, c)
		}
		words = words[min(n+1, len(words)):]
	}
	if len(commands) == 0 {
		return nil, nil, &SyntaxError{Message: "the command line is empty"}
	}
	return commands, odd, nil
}

func command(words []word) (Command, error) {
	first := words[0]
	rest := strings.TrimLeft(first.text, "-@:+!")
	prefix := first.text[:len(first.text)-len(rest)]
	c := Command{
		Path:          rest,
		IgnoreFailure: strings.Contains(prefix, "-"),
		Literal:       strings.Contains(prefix, ":"),
		Privileged:    strings.ContainsAny(prefix, "+!"),
	}
	fail := func(hint, format string, args ...any) (Command, error) {
		return Command{}, &SyntaxError{Offset: first.offset, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	for _, mark := range "-@:+" {
		if strings.Count(prefix, string(mark)) > 1 {
			return fail("", "the prefix %q repeats %c", prefix, mark)
		}
	}
	switch {
	case strings.Count(prefix, "!") > 2 || strings.Contains(prefix, "+") && strings.Contains(prefix, "!"):
		return fail("use one of + ! !!", "the prefix %q contradicts itself", prefix)
	case rest == "":
		return fail("", "no program follows the prefix %q", prefix)
	case strings.HasSuffix(rest, "/"):
		return fail("", "%q is a directory", rest)
	case strings.HasPrefix(rest, "$"):
		return fail("write the path, or let /bin/sh -c run it", "the program cannot be a variable")
	case strings.Contains(rest, "/") && rest[0] != '/' && rest[0] != '%':
		return fail("write a path from / on, or a bare name that is looked up", "the program %q has a relative path", rest)
	}
	words = words[1:]
	if strings.Contains(prefix, "@") {
		if len(words) == 0 {
			return fail("@ takes the program's path and then its name", "no name follows %q", first.text)
		}
		c.Argv0, words = words[0].text, words[1:]
	}
	for _, w := range words {
		text := w.text
		if w.raw == `\;` {
			text = ";"
		}
		c.Args = append(c.Args, text)
	}
	return c, nil
}

// Expand replaces the specifiers of each word. A word stays one word whatever it expands to.
func (c Command) Expand(unitName string, h HostSpecifiers) (Command, error) {
	expanded := c
	expanded.Args = make([]string, len(c.Args))
	var err error
	expand := func(s string) string {
		text, e := Expand(s, unitName, h)
		if e != nil && err == nil {
			err = fmt.Errorf("cannot expand %q: %w", s, e)
		}
		return text
	}
	expanded.Path, expanded.Argv0 = expand(c.Path), expand(c.Argv0)
	for i, arg := range c.Args {
		expanded.Args[i] = expand(arg)
	}
	return expanded, err
}

// Arguments returns the arguments with variables substituted (systemd.service(5), "Command lines"): a word $NAME gives
// as many arguments as the value has words, ${NAME} anywhere gives the value, $$ a dollar sign; what is not set is
// empty.
func (c Command) Arguments(lookup func(name string) (string, bool)) []string {
	if c.Literal {
		return c.Args
	}
	var args []string
	for _, arg := range c.Args {
		if len(arg) > 1 && arg[0] == '$' && isVariable(arg[1:]) {
			value, _ := lookup(arg[1:])
			args = append(args, valueWords(value)...)
			continue
		}
		args = append(args, substitute(arg, lookup))
	}
	return args
}

// valueWords cuts a variable's value into arguments; one with odd quotes is cut at white space alone.
func valueWords(value string) []string {
	words, err := splitWords(value)
	if err != nil {
		return strings.Fields(value)
	}
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	return texts
}

func substitute(arg string, lookup func(string) (string, bool)) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(arg, '$')
		if i < 0 || i+1 == len(arg) {
			break
		}
		b.WriteString(arg[:i])
		arg = arg[i:]
		name, after, closed := strings.Cut(arg[2:], "}")
		switch {
		case arg[1] == '$':
			b.WriteByte('$')
			arg = arg[2:]
		case arg[1] == '{' && closed && isVariable(name):
			value, _ := lookup(name)
			b.WriteString(value)
			arg = after
		default:
			b.WriteByte('$')
			arg = arg[1:]
		}
	}
	return b.String() + arg
}

func isVariable(name string) bool {
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	return strings.IndexFunc(name, func(r rune) bool {
		return r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}
