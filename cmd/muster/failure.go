package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/musterhq/muster/agent/api"
	"github.com/musterhq/muster/cloudconfig/finding"
)

// The exit statuses of every verb.
const (
	statusDone    = 0 // all of it is done
	statusFailed  = 1 // none of it, or it is not known how much
	statusUsage   = 2 // bad flags, a bad cluster file, a question that nobody could answer: nothing was tried
	statusPartial = 3 // a part is done; running the same command again goes on
)

// failure is an error that knows the exit status it deserves and what the operator can do about it.
type failure struct {
	err    error
	status int
	hint   string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage is a mistake in what was typed or written; nothing was tried.
func usage(hint, format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), status: statusUsage, hint: hint}
}

// failed is something that was tried and did not work.
func failed(hint, format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), status: statusFailed, hint: hint}
}

// partial is work of which a part is done.
func partial(hint, format string, args ...any) error {
	return &failure{err: fmt.Errorf(format, args...), status: statusPartial, hint: hint}
}

// report prints an error and what to do about it, and returns the exit status.
func report(w io.Writer, err error) int {
	if err == nil {
		return statusDone
	}
	status, hint := statusFailed, ""
	if f := (*failure)(nil); errors.As(err, &f) {
		status, hint = f.status, f.hint
	}
	text := err.Error()
	if mistakes := finding.Findings(nil); errors.As(err, &mistakes) {
		status = statusUsage
		text, hint = listMistakes(w, mistakes)
	}
	if answer := (*api.Error)(nil); errors.As(err, &answer) && hint == "" {
		text, hint = strings.TrimSuffix(text, "; "+answer.Hint), answer.Hint
	}
	if hint == "" {
		hint = advice(err)
	}
	fmt.Fprintf(w, "muster: %s\n", indent(text))
	if hint != "" {
		fmt.Fprintf(w, "        %s\n", indent(hint))
	}
	return status
}

// listMistakes prints what is wrong with a file, one line each as compilers do, so that editors can jump to it. What is
// wrong with the file as a whole is left to be said as any other error.
func listMistakes(w io.Writer, mistakes finding.Findings) (text, hint string) {
	if first := mistakes[0]; len(mistakes) == 1 && first.Line == 0 && first.Hint != "" {
		return first.File + ": " + first.Message, first.Hint
	}
	fmt.Fprintln(w, mistakes.Error())
	if len(mistakes) == 1 {
		return "1 mistake", "correct it and run the command again; nothing was changed"
	}
	return count(len(mistakes), "mistake"), "correct them and run the command again; nothing was changed"
}

// indent puts the lines after the first below the text of the first.
func indent(text string) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n        ")
}

// interrupted tells whether the operator ended the command.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}

// count renders "1 host", "2 hosts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
