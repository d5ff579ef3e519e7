package web

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// levels is a detector that tells a picture's grey as the width of its one
// object, so that each picture has a result of its own.
type levels struct{}

func (levels) Detect(ctx context.Context, images []image.Image, s Settings) ([][]Detection, Timing, error) {
	lists := make([][]Detection, len(images))
	for i, m := range images {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return nil, Timing{}, ctx.Err()
		}
		b := m.Bounds()
		grey := color.GrayModel.Convert(m.At(b.Min.X+b.Dx()/2, b.Min.Y+b.Dy()/2)).(color.Gray).Y
		lists[i] = []Detection{{Class: 0, Score: 0.5}}
		lists[i][0].Box.X1 = float32(grey)
	}
	return lists, Timing{}, nil
}

// killedEnv makes this test's program the server of [TestJobsSurviveKills], with
// its jobs in that folder.
const killedEnv = "RESDET_TEST_JOBS"

func TestKilledServer(t *testing.T) {
	dir := os.Getenv(killedEnv)
	if dir == "" {
		t.Skip("is the process that TestJobsSurviveKills kills")
	}
	cfg := testConfig()
	cfg.StateDir, cfg.MaxJobs, cfg.Log = dir, 2000, slog.New(slog.NewTextHandler(os.Stderr, nil))
	m := fakeModel("a", nil)
	m.Detector, m.Close = levels{}, nil
	s, err := New(cfg, m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// victim is that process.
type victim struct {
	url string
	cmd *exec.Cmd
	log *bytes.Buffer // good when it has ended
	end chan struct{}
}

func startVictim(t *testing.T, dir string) *victim {
	t.Helper()
	v := &victim{cmd: exec.Command(os.Args[0], "-test.run=^TestKilledServer$"), log: &bytes.Buffer{}, end: make(chan struct{})}
	v.cmd.Env = append(os.Environ(), killedEnv+"="+dir)
	stderr, err := v.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(v.end)
		defer close(address)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			fmt.Fprintln(v.log, lines.Text())
			if _, at, ok := strings.Cut(lines.Text(), "msg=serving address="); ok {
				address <- at
			}
		}
	}()
	at, ok := <-address
	if !ok {
		t.Fatalf("the server ended: %s", v.log)
	}
	v.url = "http://" + at
	return v
}

func (v *victim) stop(sig os.Signal) {
	v.cmd.Process.Signal(sig)
	<-v.end
	v.cmd.Wait()
}

// greys is an input of n pictures and what is found in it, a number per line.
func greys(t testing.TB, asVideo bool, n int, seed uint64) (data []byte, want []int) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	if asVideo {
		b.WriteString("YUV4MPEG2 W16 H8 F10:1 Cmono XCOLORRANGE=FULL\n")
	}
	for i := range n {
		level := byte(r.IntN(256))
		want = append(want, int(level))
		if asVideo {
			b.WriteString("FRAME\n")
			b.Write(bytes.Repeat([]byte{level}, 16*8))
			continue
		}
		m := image.NewGray(image.Rect(0, 0, 16, 8))
		for p := range m.Pix {
			m.Pix[p] = level
		}
		f, err := w.Create(fmt.Sprintf("%d.jpg", i))
		if err == nil {
			err = jpeg.Encode(f, m, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !asVideo {
		w.Close()
	}
	return b.Bytes(), want
}

// TestJobsSurviveKills kills a server with SIGKILL again and again, at random
// moments, while jobs are submitted to it. Every job that it answered 202 to is
// done in the end, once and right.
func TestJobsSurviveKills(t *testing.T) {
	kills := 30
	if testing.Short() {
		kills = 6
	}
	dir := t.TempDir()
	var mu sync.Mutex
	wanted := map[string][]int{} // by the ids of accepted jobs
	var removed []string         // cancelled or removed: answered, and not to come back
	cutOff := map[string]int{}   // how often each was running at a kill
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 2))
	for kill := range kills {
		v := startVictim(t, dir)
		over := make(chan struct{})
		go func() {
			defer close(over)
			for i := range 4 {
				video, n := (kill+i)%2 == 0, 20+(kill*7+i*13)%80
				data, want := greys(t, video, n, uint64(kill*10+i))
				res, err := http.Post(v.url+"/v1/jobs?name=job", "application/octet-stream", bytes.NewReader(data))
				if err != nil {
					return // killed
				}
				var j jobBody
				err = json.NewDecoder(res.Body).Decode(&j)
				res.Body.Close()
				if res.StatusCode != 202 {
					t.Errorf("status %d", res.StatusCode)
				}
				if err != nil {
					// The status came, and so did the header with the address.
					j.ID = strings.TrimPrefix(res.Header.Get("Location"), "/v1/jobs/")
				}
				if i == 3 && kill%3 == 0 {
					r, _ := http.NewRequest("DELETE", v.url+"/v1/jobs/"+j.ID, nil)
					if res, err := http.DefaultClient.Do(r); err == nil {
						res.Body.Close()
						mu.Lock()
						removed = append(removed, j.ID)
						mu.Unlock()
					} // else nobody knows
					continue
				}
				mu.Lock()
				wanted[j.ID] = want
				mu.Unlock()
			}
		}()
		time.Sleep(time.Duration(random.IntN(400)) * time.Millisecond)
		v.stop(syscall.SIGKILL)
		<-over
		for line := range strings.Lines(v.log.String()) {
			if _, id, ok := strings.Cut(strings.TrimSpace(line), `msg="job started" job=`); ok {
				id, _, _ = strings.Cut(id, " ")
				cutOff[id]++
			} else if _, id, ok := strings.Cut(strings.TrimSpace(line), `msg="job ended" job=`); ok {
				id, _, _ = strings.Cut(id, " ")
				cutOff[id]--
			}
		}
	}

	v := startVictim(t, dir)
	defer v.stop(syscall.SIGTERM)
	again := 0
	for id, want := range wanted {
		end, _ := follow(t, v.url, id)
		if end.State != "done" || end.Progress.Done != len(want) {
			t.Errorf("job %s: %+v %v", id, end, end.Error)
			continue
		}
		_, _, body := call(t, "GET", v.url+end.Links.Results, "", nil)
		var got []int
		for text := range strings.Lines(string(body)) {
			var l resultBody
			if err := json.Unmarshal([]byte(text), &l); err != nil || len(l.Detections) != 1 {
				t.Fatalf("%v: %s", err, text)
			}
			got = append(got, int(l.Detections[0].Box[2]))
		}
		if len(got) != len(want) {
			t.Errorf("job %s has %d lines, not %d", id, len(got), len(want))
			continue
		}
		for i := range want {
			if d := got[i] - want[i]; d < -2 || d > 2 { // JPEG's rounding
				t.Errorf("job %s, line %d: %d, not %d", id, i, got[i], want[i])
			}
		}
		if cutOff[id] > 0 {
			again++
		}
	}
	var list jobsBody
	_, _, body := call(t, "GET", v.url+"/v1/jobs", "", nil)
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, j := range list.Jobs {
		states[j.ID] = j.State
	}
	for _, id := range removed {
		// DELETE cancels a job that was not done yet, and removes one that was.
		if s := states[id]; s != "" && s != "cancelled" {
			t.Errorf("a job that was cancelled or removed is %s", s)
		}
	}
	t.Logf("%d kills: %d jobs accepted, all done; %d of them had been interrupted; %d cancelled or removed", kills, len(wanted), again, len(removed))
	if again == 0 && !testing.Short() {
		t.Error("no job was interrupted: the test shows nothing")
	}
}
