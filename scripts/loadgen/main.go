// Command loadgen measures a server from a second process, beside what
// `resdet bench` reaches with the same model on the same size of photo, and
// prints a table. It is run by scripts/load.
//
//	bench ─ 1 client ─ bench ─ 1 client ─ … ─ bench ─ 4 clients ─ … ─ overload ─▶ table
//
// Each load is cut into short rounds with a bench before and after each, so
// that a machine that is shared slows both alike: what is compared is the sum of
// the pictures that the rounds answered, with the sum of what the benches around
// them would have done in the same time.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

type options struct {
	resdet  string
	photo   string
	size    string // of the photo, HEIGHTxWIDTH
	seconds float64
	rounds  int
	serve   string // more flags of serve
	least   float64
}

func main() {
	var o options
	flag.StringVar(&o.resdet, "resdet", "resdet", "the program that is measured")
	flag.StringVar(&o.photo, "photo", "testdata/road.jpg", "what clients send")
	flag.StringVar(&o.size, "size", "432x768", "the photo's height and width")
	flag.Float64Var(&o.seconds, "seconds", 15, "of each load")
	flag.IntVar(&o.rounds, "rounds", 5, "that each load is cut into")
	flag.StringVar(&o.serve, "serve", "", "more flags of resdet serve")
	flag.Float64Var(&o.least, "least", 0.92, "of bench's rate that each load must reach")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	photo, err := os.ReadFile(o.photo)
	if err != nil {
		return err
	}
	s, err := start(o)
	if err != nil {
		return err
	}
	defer s.end()
	if l := s.load(photo, 2, 2*time.Second); l.answered == 0 { // to warm up
		return errors.New("the server answers nothing")
	}
	before := s.memory()

	bench, err := o.bench()
	if err != nil {
		return err
	}
	var failed []string
	fmt.Printf("%-22s %10s %9s %9s %9s %8s %8s\n", "", "pictures/s", "of bench", "p50 ms", "p99 ms", "answered", "refused")
	for _, clients := range []int{1, 4, 32} {
		l, expected := &loaded{}, 0.0 // pictures, by the benches
		for range o.rounds {
			round := s.load(photo, clients, o.round())
			next, err := o.bench()
			if err != nil {
				return err
			}
			l.add(round)
			expected += (bench + next) / 2 * round.seconds
			bench = next
		}
		ratio := float64(l.answered) / expected
		name := fmt.Sprintf("%d clients", clients)
		fmt.Printf("%-22s %10.2f %8.1f%% %9.0f %9.0f %8d %8d\n", name, l.rate(), 100*ratio, ms(l.at(0.5)), ms(l.at(0.99)), l.answered, l.refused)
		if ratio < o.least {
			failed = append(failed, fmt.Sprintf("%s reach %.1f %% of bench's %.2f pictures/s", name, 100*ratio, expected/l.seconds))
		}
		if l.failed > 0 {
			failed = append(failed, fmt.Sprintf("%s: %d requests failed: %v", name, l.failed, l.err))
		}
	}

	// A short queue and many clients: what is accepted waits for at most the
	// queue before it, the rest is refused. That is counted in pictures answered
	// meanwhile, for a moment's rate is not the load's.
	const queue, crowd = 16, 64
	s.end()
	o.serve += fmt.Sprint(" --queue ", queue)
	if s, err = start(o); err != nil {
		return err
	}
	defer s.end()
	s.load(photo, 2, 2*time.Second)
	l := s.load(photo, crowd, time.Duration(o.seconds*float64(time.Second)))
	fmt.Printf("%-22s %10.2f %9s %9.0f %9.0f %8d %8d\n", fmt.Sprintf("%d, queue of %d", crowd, queue), l.rate(), "", ms(l.at(0.5)), ms(l.at(0.99)), l.answered, l.refused)
	waited := l.waited(0.99)
	fmt.Printf("\np99 under overload: %d pictures are answered between a request and its answer, the queue holds %d; at the mean rate these take %.0f ms\n",
		waited, queue, 1000*queue/l.rate())
	if waited > queue {
		failed = append(failed, fmt.Sprintf("under overload a request waits for %d pictures, the queue holds %d", waited, queue))
	}
	if l.refused == 0 || l.failed > 0 {
		failed = append(failed, fmt.Sprintf("under overload %d were refused and %d failed: %v", l.refused, l.failed, l.err))
	}
	time.Sleep(5 * time.Second)
	after := s.memory()
	fmt.Printf("memory: %.0f MB before the loads, %.0f MB after the burst\n", before, after)
	if after > before*1.25 {
		failed = append(failed, "memory has not come back")
	}
	if len(failed) > 0 {
		return errors.New(strings.Join(failed, "\n"))
	}
	return nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// bench is the rate in pictures per second that the detector reaches alone.
func (o options) bench() (float64, error) {
	out, err := exec.Command(o.resdet, "bench", "--json", "--size", o.size, "--runs", strconv.Itoa(max(5, int(4*o.round().Seconds())))).Output()
	if err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	var r struct {
		Images float64 `json:"images_per_second"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return 0, fmt.Errorf("bench: %w", err)
	}
	return r.Images, nil
}

// round is how long a part of a load lasts.
func (o options) round() time.Duration {
	return time.Duration(o.seconds / float64(o.rounds) * float64(time.Second))
}

// server is a running `resdet serve`.
type server struct {
	cmd *exec.Cmd
	url string
}

func start(o options) (*server, error) {
	args := append([]string{"serve", "--addr", "127.0.0.1:0", "--state-dir", "", "--log-level", "info"}, strings.Fields(o.serve)...)
	cmd := exec.Command(o.resdet, args...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		find := regexp.MustCompile(`msg=serving address=(\S+)`)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if m := find.FindStringSubmatch(lines.Text()); m != nil {
				address <- m[1]
			}
		}
	}()
	s := &server{cmd: cmd}
	at, ok := <-address
	if !ok {
		return nil, errors.Join(errors.New("the server does not start"), cmd.Wait())
	}
	s.url = "http://" + at
	for range 200 {
		if res, err := http.Get(s.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == 200 {
				return s, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.end()
	return nil, errors.New("the server does not become ready")
}

func (s *server) end() {
	if s.cmd.ProcessState == nil {
		s.cmd.Process.Signal(syscall.SIGTERM)
		s.cmd.Wait()
	}
}

// memory is the server's resident memory in MB.
func (s *server) memory() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1024
		}
	}
	return 0
}

// loaded is how a load went.
type loaded struct {
	mu       sync.Mutex
	answered int
	refused  int // 429
	failed   int
	err      error // of one that failed
	took     []time.Duration
	spans    []span // of the answered requests
	seconds  float64
}

// span is when a request began and when it was answered.
type span struct{ began, ended time.Time }

// add joins what a round brought.
func (l *loaded) add(o *loaded) {
	l.answered, l.refused, l.failed = l.answered+o.answered, l.refused+o.refused, l.failed+o.failed
	l.err = errors.Join(l.err, o.err)
	l.took, l.spans = append(l.took, o.took...), append(l.spans, o.spans...)
	l.seconds += o.seconds
}

// waited is for how many others' answers that share of the requests waited at
// most.
func (l *loaded) waited(share float64) int {
	others := make([]int, len(l.spans))
	for i, s := range l.spans {
		for _, o := range l.spans {
			if o.ended.After(s.began) && o.ended.Before(s.ended) {
				others[i]++
			}
		}
	}
	if len(others) == 0 {
		return 0
	}
	slices.Sort(others)
	return others[min(len(others)-1, int(share*float64(len(others))))]
}

func (l *loaded) rate() float64 { return float64(l.answered) / l.seconds }

// at is the latency that the share of the answered requests does not exceed.
func (l *loaded) at(share float64) time.Duration {
	if len(l.took) == 0 {
		return 0
	}
	slices.Sort(l.took)
	return l.took[min(len(l.took)-1, int(share*float64(len(l.took))))]
}

// load sends the photo from so many clients, each when its last one is
// answered. A client that is refused waits for a moment only: what is tried is
// the server, not the client's patience.
func (s *server) load(photo []byte, clients int, d time.Duration) *loaded {
	l := &loaded{}
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	start := time.Now()
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				status, err := send(client, s.url, photo)
				took := time.Since(began)
				l.mu.Lock()
				switch {
				case err == nil && status == 200:
					l.answered++
					l.took = append(l.took, took)
					l.spans = append(l.spans, span{began, began.Add(took)})
				case err == nil && status == 429:
					l.refused++
				default:
					l.failed++
					l.err = errors.Join(err, fmt.Errorf("status %d", status))
				}
				l.mu.Unlock()
				if status != 200 {
					time.Sleep(100 * time.Millisecond)
				}
			}
		})
	}
	group.Wait()
	l.seconds = time.Since(start).Seconds()
	return l
}

func send(client *http.Client, url string, photo []byte) (int, error) {
	res, err := client.Post(url+"/v1/detect", "image/jpeg", bytes.NewReader(photo))
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	if res.StatusCode == 429 && res.Header.Get("Retry-After") == "" {
		return 0, errors.New("429 without Retry-After")
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}
