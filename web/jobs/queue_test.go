package jobs

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Archives and videos of every kind that needs no helper give one line per
// picture, in order, each with what is in that very picture.
func TestJobs(t *testing.T) {
	pictures := shades(t, 12)
	var mjpeg []byte
	for _, p := range pictures {
		mjpeg = append(mjpeg, p.data...)
	}
	withOthers := append([]member{{"readme.txt", []byte("hello")}, {"__MACOSX/._p.jpg", []byte("x")}, {"sub/.hidden.png", nil}}, pictures...)
	for _, c := range []struct {
		name string
		data []byte
		spec Spec
		kind Kind
		want int
	}{
		{"zip", zipOf(t, withOthers...), Spec{}, Images, 12},
		{"tar", tarOf(t, withOthers...), Spec{Annotate: true}, Images, 12},
		{"tar.gz", gzipOf(tarOf(t, withOthers...)), Spec{}, Images, 12},
		{"mjpeg", mjpeg, Spec{}, Video, 12},
		{"y4m", y4m(12), Spec{}, Video, 12},
		{"every", y4m(12), Spec{Every: 5}, Video, 3},
		{"track", y4m(12), Spec{Every: 5, Track: true}, Video, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := openQueue(t, testConfig(t), &fake{})
			c.spec.Name = `C:\up\` + c.name
			j := submit(t, q, c.spec, c.data)
			if j.State != Queued || j.Name != c.name || j.Model != "m" || !validID(j.ID) {
				t.Errorf("accepted: %+v", j)
			}
			j = wait(t, q, j.ID, finished)
			if j.State != Done || j.Kind != c.kind {
				t.Fatalf("%+v: %v", j, j.Fault)
			}
			if p := j.Progress; p.Done != c.want || p.Total != c.want || p.Fraction != 1 || p.Left != 0 || p.Failed != 0 {
				t.Errorf("progress %+v", p)
			}
			lines := resultsOf(t, q, j.ID)
			if len(lines) != c.want {
				t.Fatalf("%d lines", len(lines))
			}
			for i, l := range lines {
				frame := i * max(1, c.spec.Every)
				if c.spec.Track {
					frame = i
				}
				level := float64(frame*7) / 255
				if strings.HasPrefix(c.name, "y") || c.spec.Every > 0 {
					level = float64(frame) / 255
				}
				switch {
				case c.kind == Images && l.Image != fmt.Sprintf("p%03d.jpg", i):
					t.Errorf("line %d is of %q", i, l.Image)
				case c.kind == Video && l.Frame != frame:
					t.Errorf("line %d is of frame %d", i, l.Frame)
				case !c.spec.Track && (len(l.Detections) != 1 || math.Abs(l.Detections[0].Score-level) > 0.01 || l.Detections[0].Class != "level" || l.Detections[0].ClassID != 7):
					t.Errorf("line %d: %+v, want %v", i, l, level)
				}
			}
			if c.spec.Annotate {
				checkDrawn(t, q, j.ID, 12)
			} else if _, _, err := q.AnnotatedFile(j.ID); code(err) != NotReady {
				t.Errorf("drawn without being asked: %v", err)
			}
		})
	}
}

func checkDrawn(t *testing.T, q *Queue, id string, n int) {
	t.Helper()
	f, _, err := q.AnnotatedFile(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil || len(z.File) != n || !strings.HasSuffix(f.Name(), ".zip") {
		t.Fatalf("%s: %v", f.Name(), err)
	}
	for _, entry := range z.File {
		r, err := entry.Open()
		if err != nil {
			t.Fatal(err)
		}
		if m, err := jpeg.Decode(r); err != nil || m.Bounds().Dx() != 32 {
			t.Errorf("%s: %v", entry.Name, err)
		}
	}
}

// One damaged picture does not spoil the others; damaged ones alone are no
// result.
func TestDamagedPictures(t *testing.T) {
	q := openQueue(t, testConfig(t), &fake{})
	bad := member{"bad.jpg", []byte("\xff\xd8\xff, not really")}
	j := wait(t, q, submit(t, q, Spec{Annotate: true}, zipOf(t, shades(t, 2)[0], bad, shades(t, 2)[1])).ID, finished)
	lines := resultsOf(t, q, j.ID)
	if j.State != Done || j.Progress.Failed != 1 || len(lines) != 3 || lines[1].Error == "" || lines[1].Image != "bad.jpg" || lines[2].Error != "" {
		t.Errorf("%+v %+v", j, lines)
	}
	checkDrawn(t, q, j.ID, 2)
	j = wait(t, q, submit(t, q, Spec{}, zipOf(t, bad)).ID, finished)
	if j.State != Failed || j.Fault.Code != BadInput || !strings.Contains(j.Fault.Message, "bad.jpg") {
		t.Errorf("%+v %v", j, j.Fault)
	}
}

// What cannot become a job is refused, and leaves nothing behind.
func TestRefused(t *testing.T) {
	c := testConfig(t)
	c.MaxUpload = 1 << 20
	q := openQueue(t, c, &fake{})
	good := zipOf(t, shades(t, 1)...)
	for _, r := range []struct {
		name string
		spec Spec
		data []byte
		size int64
		want Code
	}{
		{"nothing", Spec{}, nil, 0, BadInput},
		{"text", Spec{}, []byte("ffconcat version 1.0\nfile /etc/passwd\n"), -1, Unsupported},
		{"playlist", Spec{}, []byte("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"), -1, Unsupported},
		{"png", Spec{}, []byte("\x89PNG\r\n\x1a\n"), -1, Unsupported},
		{"gzip of text", Spec{}, gzipOf([]byte(strings.Repeat("hello ", 1000))), -1, Unsupported},
		{"said to be too large", Spec{}, good, 2 << 20, TooLarge},
		{"too large", Spec{}, make([]byte, 2<<20), -1, TooLarge},
		{"every", Spec{Every: maxEvery + 1}, good, -1, BadRequest},
		{"every of an archive", Spec{Every: 2}, good, -1, BadRequest},
		{"track of an archive", Spec{Track: true}, good, -1, BadRequest},
		{"model", Spec{Model: "other"}, good, -1, ""},
		{"class", Spec{Settings: Settings{Classes: []string{"cat"}}}, good, -1, ""},
	} {
		if _, err := q.Submit(t.Context(), r.spec, bytes.NewReader(r.data), r.size); err == nil || code(err) != r.want {
			t.Errorf("%s: %v (%s), want %s", r.name, err, code(err), r.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := q.Submit(ctx, Spec{}, cancelling{cancel}, -1); err == nil {
		t.Error("an upload whose client went away was accepted")
	}
	if files := filesIn(t, c); len(files) > 0 || q.space.used != 0 || q.incoming != 0 || len(q.List()) > 0 {
		t.Errorf("left: %v, %d bytes, %d on their way, %v", files, q.space.used, q.incoming, q.List())
	}
}

// cancelling is a body whose client goes away.
type cancelling struct{ cancel func() }

func (c cancelling) Read(b []byte) (int, error) {
	c.cancel()
	return copy(b, "PK\x03\x04"), nil
}

// TestStates: only the transitions of the table happen, whatever is asked for.
func TestStates(t *testing.T) {
	all := []State{Queued, Running, Done, Failed, Cancelled}
	may := map[State]string{Queued: "running failed cancelled", Running: "done failed cancelled queued"}
	for _, from := range all {
		if from.Finished() != (may[from] == "") {
			t.Errorf("%s finished: %v", from, from.Finished())
		}
		for _, to := range all {
			if from.mayBecome(to) != strings.Contains(may[from], string(to)) {
				t.Errorf("%s → %s: %v", from, to, from.mayBecome(to))
			}
		}
	}
	q := openQueue(t, testConfig(t), &fake{})
	j := wait(t, q, submit(t, q, Spec{}, y4m(1)).ID, finished)
	q.mu.Lock()
	err := q.commit(q.entries[j.ID], func(r *record) { r.State = Running })
	q.mu.Unlock()
	if err == nil {
		t.Error("a job that is done began to run")
	}
}

func TestCancel(t *testing.T) {
	c := testConfig(t)
	f := &fake{hold: make(chan struct{})}
	q := openQueue(t, c, f)
	running := submit(t, q, Spec{}, y4m(100))
	queued := submit(t, q, Spec{}, zipOf(t, shades(t, 3)...))
	wait(t, q, running.ID, is(Running))
	if _, _, err := q.Results(running.ID); code(err) != NotReady {
		t.Errorf("results of a running job: %v", err)
	}
	for _, id := range []string{queued.ID, running.ID} {
		j, removed, err := q.Delete(t.Context(), id)
		if err != nil || removed || j.State != Cancelled || j.Finished.IsZero() {
			t.Errorf("%+v %v %v", j, removed, err)
		}
		if _, _, err := q.Results(id); code(err) != NotReady {
			t.Errorf("results of a cancelled job: %v", err)
		}
		if _, removed, err := q.Delete(t.Context(), id); err != nil || !removed {
			t.Errorf("removing: %v %v", removed, err)
		}
		if _, err := q.Get(id); code(err) != NotFound {
			t.Errorf("after removing: %v", err)
		}
	}
	if files := filesIn(t, c); len(files) > 0 || q.space.used != 0 {
		t.Errorf("left: %v, %d bytes", files, q.space.used)
	}
	close(f.hold) // the worker is free again
	wait(t, q, submit(t, q, Spec{}, y4m(2)).ID, is(Done))
	if _, _, err := q.Delete(t.Context(), "../../etc"); code(err) != NotFound {
		t.Errorf("a strange id: %v", err)
	}
}

// What fails is told, and does not stop the jobs behind it.
func TestFailures(t *testing.T) {
	c := testConfig(t)
	f := &fake{}
	q := openQueue(t, c, f)
	f.fail.Store(true)
	j := wait(t, q, submit(t, q, Spec{Name: "film"}, y4m(2)).ID, finished)
	if j.State != Failed || j.Fault.Code != NoModel || !strings.Contains(j.Fault.Message, "on fire") {
		t.Errorf("%+v %v", j, j.Fault)
	}
	j = wait(t, q, submit(t, q, Spec{}, zipOf(t, shades(t, 2)...)).ID, finished)
	if j.State != Failed || j.Fault.Code != NoModel {
		t.Errorf("%+v %v", j, j.Fault)
	}
	f.fail.Store(false)
	for _, bad := range []struct {
		spec Spec
		data []byte
		want Code
		text string
	}{
		{Spec{Name: "my film.y4m"}, y4m(3)[:200], BadInput, "my film.y4m"},                            // cut in a frame
		{Spec{}, []byte("\x00\x00\x00\x18ftypmp42"), Unsupported, "OpenCV"},                           // needs the helper
		{Spec{Annotate: true}, y4m(3), Unsupported, "OpenCV"},                                         // so does this
		{Spec{}, append([]byte("\xff\xd8\xff"), bytes.Repeat([]byte{1}, 99)...), BadInput, "unnamed"}, // no picture
	} {
		j := wait(t, q, submit(t, q, bad.spec, bad.data).ID, finished)
		if j.State != Failed || j.Fault.Code != bad.want || !strings.Contains(j.Fault.Message, bad.text) {
			t.Errorf("%+v: %v", j, j.Fault)
		}
		if j.Fault != nil && strings.Contains(j.Fault.Message, c.Dir) {
			t.Errorf("it tells the server's paths: %v", j.Fault)
		}
	}
	wait(t, q, submit(t, q, Spec{}, y4m(2)).ID, is(Done))
	for _, name := range filesIn(t, c) {
		if !strings.HasSuffix(name, "/") && !strings.HasSuffix(name, resultsFile) {
			t.Errorf("left: %s", name)
		}
	}
}

// panicking breaks as a bug would.
type panicking struct{ fake }

func (*panicking) Detect(context.Context, string, Settings, image.Image) ([]Detection, error) {
	panic("bug")
}

func TestTooLong(t *testing.T) {
	c := testConfig(t)
	c.MaxTime = 50 * time.Millisecond
	q := openQueue(t, c, &fake{hold: make(chan struct{})})
	if j := wait(t, q, submit(t, q, Spec{}, y4m(2)).ID, finished); j.State != Failed || j.Fault.Code != TooLong {
		t.Errorf("%+v %v", j, j.Fault)
	}
}

// TestBounds: jobs are bounded in number, bytes and age, and the oldest
// finished ones make room.
func TestBounds(t *testing.T) {
	c := testConfig(t)
	c.MaxJobs = 3
	f := &fake{hold: make(chan struct{}, 100)}
	q := openQueue(t, c, f)
	for range 100 {
		f.hold <- struct{}{}
	}
	var ids []string
	for range 5 {
		j := submit(t, q, Spec{}, y4m(2))
		wait(t, q, j.ID, is(Done))
		ids = append(ids, j.ID)
	}
	if list := q.List(); len(list) != 3 || list[0].ID != ids[4] || list[2].ID != ids[2] {
		t.Errorf("%v of %v", list, ids)
	}
	for len(f.hold) > 0 {
		<-f.hold
	}
	for range 3 {
		submit(t, q, Spec{}, y4m(2))
	}
	if _, err := q.Submit(t.Context(), Spec{}, bytes.NewReader(y4m(2)), -1); code(err) != Busy {
		t.Errorf("more jobs than allowed: %v", err)
	}
	if n := len(filesIn(t, c)); n != 4 { // three inputs and a folder of work
		t.Errorf("files: %v", filesIn(t, c))
	}
}

func TestBytes(t *testing.T) {
	c := testConfig(t)
	c.MaxBytes, c.MaxUpload = 3<<20, 3<<20
	hold := make(chan struct{}, 100)
	q := openQueue(t, c, &fake{hold: hold})
	megabyte := append(y4m(2), make([]byte, 1<<20)...) // a cut video behind two frames
	hold <- struct{}{}
	hold <- struct{}{}
	wait(t, q, submit(t, q, Spec{}, megabyte).ID, finished) // its input is removed
	if q.space.used > 1000 {
		t.Errorf("a finished job holds %d bytes", q.space.used)
	}
	for range 2 {
		submit(t, q, Spec{}, megabyte)
	}
	for _, size := range []int64{-1, int64(len(megabyte))} {
		if _, err := q.Submit(t.Context(), Spec{}, bytes.NewReader(megabyte), size); code(err) != NoSpace {
			t.Errorf("size %d: more bytes than allowed: %v", size, err)
		}
	}
	if used := q.space.used; used < 2<<20 || used > 3<<20 {
		t.Errorf("%d bytes in use", used)
	}
	for _, j := range q.List() {
		q.Delete(t.Context(), j.ID)
		q.Delete(t.Context(), j.ID)
	}
	if q.space.used != 0 {
		t.Errorf("%d bytes in use by nothing", q.space.used)
	}
}

func TestAge(t *testing.T) {
	c := testConfig(t)
	q := openQueue(t, c, &fake{})
	j := wait(t, q, submit(t, q, Spec{}, y4m(2)).ID, is(Done))
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	c.Age = time.Nanosecond
	q = openQueue(t, c, &fake{})
	for {
		if _, changed, err := q.Follow(j.ID); err != nil {
			break
		} else {
			<-changed
		}
	}
	if files := filesIn(t, c); len(files) > 0 {
		t.Errorf("left: %v", files)
	}
}

// TestReopen: what a queue closed in good order leaves is there again, and what
// was running runs again without counting as interrupted.
func TestReopen(t *testing.T) {
	c := testConfig(t)
	f := &fake{hold: make(chan struct{}, 10)}
	q := openQueue(t, c, f)
	f.hold <- struct{}{}
	done := wait(t, q, submit(t, q, Spec{Name: "first"}, y4m(1)).ID, is(Done))
	running := submit(t, q, Spec{Name: "second"}, y4m(5))
	queued := submit(t, q, Spec{Name: "third"}, zipOf(t, shades(t, 2)...))
	wait(t, q, running.ID, is(Running))
	cancelled := submit(t, q, Spec{}, y4m(5))
	q.Delete(t.Context(), cancelled.ID)
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Submit(t.Context(), Spec{}, bytes.NewReader(y4m(1)), -1); code(err) != Closing {
		t.Errorf("submitted to a closed queue: %v", err)
	}
	os.MkdirAll(filepath.Join(c.Dir, "jobs", newID()), 0o700) // of an upload that was cut off
	os.WriteFile(filepath.Join(c.Dir, "jobs", running.ID, resultsFile), []byte("half\n"), 0o600)
	os.MkdirAll(filepath.Join(c.Dir, "jobs", running.ID, workPrefix+"1"), 0o700)

	q = openQueue(t, c, &fake{})
	q.mu.Lock()
	attempts := q.entries[running.ID].Attempts
	q.mu.Unlock()
	if attempts > 1 {
		t.Errorf("%d attempts", attempts)
	}
	for _, want := range []Job{done, running, queued} {
		j := wait(t, q, want.ID, finished)
		if j.State != Done || j.Name != want.Name || !j.Created.Equal(want.Created) || j.Kind != want.Kind {
			t.Errorf("%+v, was %+v", j, want)
		}
	}
	if j, err := q.Get(cancelled.ID); err != nil || j.State != Cancelled {
		t.Errorf("%+v %v", j, err)
	}
	if n := len(resultsOf(t, q, done.ID)); n != 1 {
		t.Errorf("%d lines of the first", n)
	}
	if n := len(resultsOf(t, q, running.ID)); n != 5 {
		t.Errorf("%d lines of the second", n)
	}
	if list := q.List(); len(list) != 4 {
		t.Errorf("%d jobs", len(list))
	}
	if files := filesIn(t, c); len(files) != 4 { // three results and a cancelled job's empty folder
		t.Errorf("%v", files)
	}
}

// A job that the process died of again and again is given up, and others go
// first.
func TestAttempts(t *testing.T) {
	c := testConfig(t)
	c.Attempts = 3
	q := openQueue(t, c, &fake{hold: make(chan struct{})})
	poison := submit(t, q, Spec{}, y4m(1))
	other := submit(t, q, Spec{}, y4m(1))
	wait(t, q, poison.ID, is(Running))
	q.Close()
	die := func() {
		s, err := openStore(c.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		records, _ := s.all(func(string, error) {})
		for _, r := range records {
			if r.ID == poison.ID && r.State == Queued {
				r.State, r.Attempts = Running, r.Attempts+1
				s.put(&r)
			}
		}
	}
	die()
	q, err := Open(c, &fake{})
	if err != nil {
		t.Fatal(err)
	}
	if e, _, _ := q.start(t.Context(), detections); e.ID != other.ID {
		t.Error("the job that was interrupted goes before another one")
	}
	q.store.close()
	die()
	die() // not running now
	q, err = Open(c, &fake{})
	if err != nil {
		t.Fatal(err)
	}
	q.store.close()
	die()
	q = openQueue(t, c, &fake{})
	if j, err := q.Get(poison.ID); err != nil || j.State != Failed || j.Fault.Code != Interrupted {
		t.Errorf("%+v %v %v", j, j.Fault, err)
	}
	wait(t, q, other.ID, is(Done))
}

func TestStoreIsOwned(t *testing.T) {
	c := testConfig(t)
	openQueue(t, c, &fake{})
	if _, err := Open(c, &fake{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("two queues in one folder: %v", err)
	}
	c = testConfig(t)
	os.WriteFile(filepath.Join(c.Dir, "jobs.db"), bytes.Repeat([]byte("not a database"), 1000), 0o600)
	if _, err := Open(c, &fake{}); err == nil || !strings.Contains(err.Error(), "jobs.db") {
		t.Errorf("a damaged database: %v", err)
	}
	c.Dir = filepath.Join(c.Dir, "jobs.db", "sub")
	if _, err := Open(c, &fake{}); err == nil {
		t.Error("a folder that cannot be made")
	}
}

// TestWatch: a running video can be watched as MJPEG; a viewer who does not read
// holds nobody up.
func TestWatch(t *testing.T) {
	f := &fake{hold: make(chan struct{})}
	q := openQueue(t, testConfig(t), f)
	j := submit(t, q, Spec{}, y4m(200))
	wait(t, q, j.ID, func(j Job) bool { return j.Watchable })
	h, err := q.Watch(j.ID)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	lazy, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer lazy.Body.Close()
	close(f.hold)
	wait(t, q, j.ID, is(Done))
	if _, err := q.Watch(j.ID); code(err) != NotReady {
		t.Errorf("watching what is done: %v", err)
	}
	body, err := io.ReadAll(lazy.Body)
	if err != nil || !bytes.Contains(body, []byte("image/jpeg")) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}

func TestPanic(t *testing.T) {
	q := openQueue(t, testConfig(t), &panicking{})
	for range 2 { // the worker lives
		if j := wait(t, q, submit(t, q, Spec{}, zipOf(t, shades(t, 1)...)).ID, finished); j.State != Failed || j.Fault.Code != Internal {
			t.Errorf("%+v %v", j, j.Fault)
		}
	}
}
