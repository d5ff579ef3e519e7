package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"resdet/internal/fixture"
)

// serving is a server in a process of its own.
type serving struct {
	cmd  *exec.Cmd
	url  string
	logs *logLines
}

// logLines keeps what a process writes to stderr.
type logLines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startServe starts `resdet serve` on a free port and waits until it is ready.
func startServe(t *testing.T, args ...string) *serving {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--addr", "127.0.0.1:0", "--state-dir", t.TempDir()}, args...)...)
	cmd.Args[0] = "resdet" // which is what this binary then is: see TestMain
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	s := &serving{cmd: cmd, logs: &logLines{}}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		find := regexp.MustCompile(`msg=serving address=(\S+)`)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			s.logs.mu.Lock()
			fmt.Fprintln(&s.logs.text, lines.Text())
			s.logs.mu.Unlock()
			if m := find.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	at, ok := <-address
	if !ok {
		t.Fatalf("the server ended: %s", s.logs)
	}
	s.url = "http://" + at
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); {
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == 200 {
				return s
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the server does not become ready: %s", s.logs)
	return nil
}

func (s *serving) detect(photo []byte) (status int, body string, err error) {
	res, err := http.Post(s.url+"/v1/detect?score=0.5", "image/jpeg", bytes.NewReader(photo))
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// await waits for a condition, on the slowest machine.
func (s *serving) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s: %s", what, s.logs)
		}
	}
}

// end sends a signal and returns the exit code.
func (s *serving) end(t *testing.T, sig os.Signal) int {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func roadPhoto(t *testing.T) []byte {
	t.Helper()
	photo, err := os.ReadFile(filepath.Join(fixture.Root(), "testdata", "road.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	return photo
}

// The server finds what `resdet detect` finds; SIGHUP replaces the models while
// requests come, and none of them fails; SIGTERM lets the last one end.
func TestServe(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the default model many times")
	}
	photo := roadPhoto(t)
	s := startServe(t)
	status, body, err := s.detect(photo)
	if err != nil || status != 200 || strings.Count(body, `"class":"car"`) != 2 {
		t.Fatalf("%d %v %s", status, err, body)
	}

	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body, err := s.detect(photo); err != nil || status != 200 || !strings.Contains(body, `"class":"car"`) {
					t.Errorf("%d %v %s", status, err, body)
					return
				}
			}
		})
	}
	for n := 2; n < 5; n++ { // "model is ready" each time
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		s.await(t, "the models to be opened anew", func() bool { return strings.Count(s.logs.String(), "model is ready") == n })
	}
	close(stop)
	clients.Wait()
	if n := strings.Count(s.logs.String(), "model is ready"); n != 4 {
		t.Errorf("the models were opened %d times, want 4", n)
	}

	answered, rest := make(chan error, 1), make(chan struct{})
	go func() {
		r, w := io.Pipe()
		go func() {
			w.Write(photo[:100])
			<-rest
			w.Write(photo[100:])
			w.Close()
		}()
		res, err := http.Post(s.url+"/v1/detect", "image/jpeg", r)
		if err == nil {
			res.Body.Close()
			if res.StatusCode != 200 {
				err = fmt.Errorf("status %d", res.StatusCode)
			}
		}
		answered <- err
	}()
	// The request is under way once the server reads its body, and goes on once
	// the server has been told to stop.
	s.await(t, "a request under way", func() bool { return !strings.Contains(string(s.file(t, "/metrics")), "resdet_memory_bytes 0\n") })
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the server to stop", func() bool { return strings.Contains(s.logs.String(), "msg=stopping") })
	close(rest)
	s.cmd.Wait()
	if code := s.cmd.ProcessState.ExitCode(); code != exitTerminated {
		t.Errorf("exit code %d", code)
	}
	if err := <-answered; err != nil {
		t.Errorf("the request under way: %v", err)
	}
}

// What cannot be served ends the process with an error.
func TestServeFails(t *testing.T) {
	cmd := exec.Command(os.Args[0], "serve", "--addr", "127.0.0.1:0", "--model", filepath.Join(t.TempDir(), "none.safetensors"))
	cmd.Args[0] = "resdet"
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(string(out), "none.safetensors") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
