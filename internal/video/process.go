package video

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"resdet/internal/video/wire"
)

// HelperEnv is the environment variable that names the helper program.
const HelperEnv = "RESDET_VIDEO"

// installHint says what the helper needs.
const installHint = "on Debian scripts/build installs OpenCV and builds it; RESDET_VIDEO may name it. Folders of pictures, MJPEG and Y4M need no helper"

// FindHelper returns the helper program: named by RESDET_VIDEO, beside this
// program, or in PATH. The error wraps [ErrNoHelper] and has a hint.
func FindHelper() (string, error) {
	if name := os.Getenv(HelperEnv); name != "" {
		if _, err := exec.LookPath(name); err != nil {
			return "", &HintError{fmt.Errorf("video: %w: %s=%s: %w", ErrNoHelper, HelperEnv, name, err), installHint}
		}
		return name, nil
	}
	if self, err := os.Executable(); err == nil {
		if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), helperName)); err == nil {
			return beside, nil
		}
	}
	if found, err := exec.LookPath(helperName); err == nil {
		return found, nil
	}
	return "", &HintError{fmt.Errorf("video: %w", ErrNoHelper), installHint}
}

const helperName = "resdet-video"

// process is a running helper. Its death, however it comes, is an error of
// whoever reads from it or writes to it.
type process struct {
	cmd    *exec.Cmd
	in     *os.File // to its standard input
	out    *os.File // from its standard output
	writer *wire.Writer
	reader *wire.Reader
	stderr tail
	dead   chan struct{} // closed when it has ended
	once   sync.Once
	why    error // set before a kill: why it was killed
	whyMu  sync.Mutex
}

// start runs the helper with its order.
func start(program string, order wire.Open) (*process, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		childIn.Close()
		in.Close()
		return nil, err
	}
	p := &process{cmd: exec.Command(program), in: in, out: out, dead: make(chan struct{})}
	p.writer, p.reader = wire.NewWriter(in), wire.NewReader(out)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = childIn, childOut, &p.stderr
	p.cmd.WaitDelay = time.Second
	err = p.cmd.Start()
	childIn.Close()
	childOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	go func() {
		p.cmd.Wait() // its verdict is in ProcessState
		close(p.dead)
	}()
	if err := p.writer.Text(wire.KindOpen, order); err != nil {
		p.kill(nil)
		return nil, p.failure(err)
	}
	return p, nil
}

// kill ends the process; why, if not nil, is what its reader will be told.
func (p *process) kill(why error) {
	p.whyMu.Lock()
	if p.why == nil {
		p.why = why
	}
	p.whyMu.Unlock()
	p.cmd.Process.Kill()
}

// guard kills the process unless stop is called within the time. why is the
// reason given.
func (p *process) guard(limit time.Duration, why error) (stop func() bool) {
	return time.AfterFunc(limit, func() { p.kill(why) }).Stop
}

// close ends the process and frees what belongs to it.
func (p *process) close() {
	p.once.Do(func() {
		p.in.Close()
		p.cmd.Process.Kill()
		select {
		case <-p.dead:
		case <-time.After(5 * time.Second): // a driver holds it: there is no more to do
		}
		p.out.Close()
	})
}

// next reads the next message's header. The helper's own error message, and
// its death, come as errors.
func (p *process) next() (wire.Header, error) {
	h, err := p.reader.Next()
	if err != nil {
		return h, p.failure(err)
	}
	if h.Kind == wire.KindFailure {
		var f wire.Failure
		if err := p.reader.Text(&f); err != nil {
			return h, p.failure(err)
		}
		return h, p.reported(f)
	}
	return h, nil
}

// reported is the error that the helper itself found, with what OpenCV printed.
func (p *process) reported(f wire.Failure) error {
	err := errors.New(f.Message)
	if said := p.lastWords(); said != "" {
		err = fmt.Errorf("%w; OpenCV printed: %s", err, said)
	}
	if f.Codecs != nil {
		return &HintError{err, "codecs that are there: " + strings.Join(f.Codecs, ", ")}
	}
	return err
}

// lastWords is what a process that has sent its last message printed. It is
// waited for: messages and prints come by different pipes, in any order.
func (p *process) lastWords() string {
	select {
	case <-p.dead:
	case <-time.After(time.Second):
	}
	return p.stderr.String()
}

// failure explains why talking to the process failed: it was killed here, or
// it died, or it talks nonsense.
func (p *process) failure(err error) error {
	p.whyMu.Lock()
	why := p.why
	p.whyMu.Unlock()
	if why != nil {
		return why
	}
	if errors.Is(err, wire.ErrProtocol) {
		p.cmd.Process.Kill()
		return &HintError{fmt.Errorf("the helper process %s: %w", p.cmd.Path, err), "build resdet and resdet-video from the same version: scripts/build"}
	}
	select {
	case <-p.dead:
	case <-time.After(2 * time.Second): // it closed the pipe but lives
		p.cmd.Process.Kill()
		return fmt.Errorf("the helper process stopped answering: %w", err)
	}
	said := p.stderr.String()
	if said == "" {
		said = "nothing"
	}
	return fmt.Errorf("the helper process ended (%v); it printed: %s", p.cmd.ProcessState, said)
}

// tail keeps the end of what a process prints, without the traces that Go's
// runtime adds when C++ aborts: they would drown the reason.
type tail struct {
	mu    sync.Mutex
	buf   []byte
	ended bool // by a trace
}

// traces is how the runtime's report of a signal goes on after its first line.
var traces = [][]byte{[]byte("\nPC=0x"), []byte("\n\ngoroutine ")}

const (
	tailBytes = 4 << 10
	tailLines = 6
)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return len(b), nil
	}
	t.buf = append(t.buf, b...)
	for _, mark := range traces {
		if i := bytes.Index(t.buf, mark); i >= 0 {
			t.buf, t.ended = t.buf[:i], true
		}
	}
	if over := len(t.buf) - tailBytes; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(b), nil
}

// String returns the last lines in one, without repetitions.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for line := range bytes.Lines(t.buf) {
		text := strings.Map(printable, strings.TrimSpace(string(line)))
		if text != "" && (len(lines) == 0 || lines[len(lines)-1] != text) {
			lines = append(lines, text)
		}
	}
	if over := len(lines) - tailLines; over > 0 {
		lines = lines[over:]
	}
	return strings.Join(lines, " | ")
}

// printable keeps control characters of a stranger's file off the terminal.
func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return -1
	}
	return r
}
