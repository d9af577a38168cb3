package progress

import (
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"charm.land/bubbles/v2/spinner"
	tea "charm.land/bubbletea/v2"

	"github.com/musterhq/muster/cluster/apply"
)

// LiveOptions say how a live display draws.
type LiveOptions struct {
	Out     io.Writer // a terminal
	Color   bool
	Environ []string // of the process: what kind of terminal it is
	Now     func() time.Time
	// Width and Height are the size in cells of a terminal that cannot be asked for it.
	Width, Height int
}

// NewLive draws a line per host and draws it again with every event. It reads nothing and leaves signals alone.
func NewLive(o LiveOptions) Display {
	if !o.Color {
		o.Environ = append(slices.Clone(o.Environ), "NO_COLOR=1")
	}
	l := &live{options: o}
	l.start()
	return l
}

// live owns a running bubbletea program.
type live struct {
	options LiveOptions

	mu      sync.Mutex
	program *tea.Program
	over    chan struct{} // closed when program has ended
}

// start begins to draw on an empty board.
func (l *live) start() {
	m := model{
		board:   &board{color: l.options.Color},
		spinner: spinner.New(spinner.WithSpinner(spinner.MiniDot)),
		now:     l.options.Now,
	}
	program := tea.NewProgram(m, tea.WithOutput(l.options.Out), tea.WithInput(nil), tea.WithoutSignalHandler(),
		tea.WithEnvironment(l.options.Environ), tea.WithFPS(20), tea.WithWindowSize(l.options.Width, l.options.Height))
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = program.Run() // a terminal that cannot be drawn on shows nothing; the work goes on
	}()
	l.program, l.over = program, over
}

// send hands a message over. After the program has ended it does nothing.
func (l *live) send(msg tea.Msg) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.program.Send(msg)
}

// Report shows an event.
func (l *live) Report(e apply.Event) { l.send(eventMsg(e)) }

// Write shows lines above the board. The command's message is made here and not by bubbletea, which would lose it when
// the display is closed soon after.
func (l *live) Write(p []byte) (int, error) {
	l.send(tea.Println(strings.TrimRight(string(p), "\n"))())
	return len(p), nil
}

// Ask leaves what was drawn so far above the question and begins anew below it.
func (l *live) Ask(question func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.program.Send(closeMsg{})
	<-l.over
	question()
	l.start()
}

// Close draws the last picture and waits until the terminal is given back.
func (l *live) Close() {
	l.send(closeMsg{})
	<-l.over
}

type (
	eventMsg apply.Event
	closeMsg struct{}
)

// model is the bubbletea side of a board.
type model struct {
	board   *board
	spinner spinner.Model
	now     func() time.Time
	over    bool
}

// Init starts the spinner.
func (m model) Init() tea.Cmd { return m.spinner.Tick }

// Update takes in an event, the terminal's size, or a turn of the spinner.
func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case eventMsg:
		m.board.take(apply.Event(msg))
		return m, nil
	case tea.WindowSizeMsg:
		m.board.width, m.board.height = msg.Width, msg.Height
		return m, nil
	case closeMsg:
		m.over = true
		return m, tea.Quit
	default:
		var cmd tea.Cmd
		m.spinner, cmd = m.spinner.Update(msg)
		return m, cmd
	}
}

// View draws the board.
func (m model) View() tea.View {
	return tea.NewView(m.board.render(m.now(), m.spinner.View(), m.over))
}
