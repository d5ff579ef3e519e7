package web

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// photos is a zip archive of n pictures.
func photos(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i := range n {
		f, err := w.Create(fmt.Sprintf("photo%d.jpg", i))
		if err == nil {
			_, err = f.Write(picture(t, 100, 50))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return b.Bytes()
}

// film is a Y4M video of n frames.
func film(n int) []byte {
	return []byte("YUV4MPEG2 W16 H8 F10:1 Cmono\n" + strings.Repeat("FRAME\n"+strings.Repeat("g", 16*8), n))
}

// fileForm is a form with parts of these names.
func fileForm(t testing.TB, data []byte, names ...string) (kind string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, n := range names {
		part, err := w.CreateFormFile(n, `C:\films\road.y4m`)
		if err != nil {
			t.Fatal(err)
		}
		part.Write(data)
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// accepted submits a job that must be accepted.
func accepted(t testing.TB, base, query, kind string, body []byte) jobBody {
	t.Helper()
	status, header, answer := call(t, "POST", base+"/v1/jobs"+query, kind, body)
	var j jobBody
	if err := json.Unmarshal(answer, &j); err != nil || status != 202 || header.Get("Location") != "/v1/jobs/"+j.ID {
		t.Fatalf("%d %v %v %s", status, header, err, answer)
	}
	return j
}

// state asks for a job.
func state(t testing.TB, base, id string) (j jobBody) {
	t.Helper()
	status, _, answer := call(t, "GET", base+"/v1/jobs/"+id, "", nil)
	if err := json.Unmarshal(answer, &j); err != nil || status != 200 {
		t.Fatalf("%d %v %s", status, err, answer)
	}
	return j
}

// event is a server-sent one.
type event struct {
	name string
	id   string
	job  jobBody
}

// eventsOf reads a stream of events to its end.
func eventsOf(t testing.TB, r io.Reader, each func(event)) {
	t.Helper()
	var e event
	s := bufio.NewScanner(r)
	for s.Scan() {
		key, value, _ := strings.Cut(s.Text(), ": ")
		switch key {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.job = jobBody{}
			if err := json.Unmarshal([]byte(value), &e.job); err != nil {
				t.Fatalf("%v: %s", err, value)
			}
		case "":
			if e.name != "" && s.Text() == "" {
				each(e)
			}
			e = event{}
		}
	}
}

// follow waits for a job's end by its events.
func follow(t testing.TB, base, id string) (last jobBody, count int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", base+"/v1/jobs/"+id+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", "7")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if k := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || k != "text/event-stream" {
		t.Fatalf("%d %s", answer.StatusCode, k)
	}
	ended := false
	eventsOf(t, answer.Body, func(e event) {
		count++
		if ended || e.job.ID != id || e.id != fmt.Sprint(count) {
			t.Errorf("event %d: %+v", count, e)
		}
		last, ended = e.job, e.name == "end"
	})
	if !ended {
		t.Error("there was no end")
	}
	return last, count
}

func TestJobOfPictures(t *testing.T) {
	_, h, _ := newTestServer(t, jobsConfig(t))
	for _, c := range []struct{ query, want, model string }{
		{"?name=my+photos.zip", "cat dog", "a"},
		{"?name=my+photos.zip&model=b&score=0.5&annotate=true", "cat", "b"},
		{"?name=my+photos.zip&classes=dog,dog&nms=0.4&max=3", "dog", "a"},
	} {
		j := accepted(t, h.URL, c.query, "application/zip", photos(t, 3))
		if j.Kind != "images" || j.Name != "my photos.zip" || j.Model != c.model {
			t.Errorf("%+v", j)
		}
		end, _ := follow(t, h.URL, j.ID)
		if end.State != "done" || end.Progress.Done != 3 || end.Progress.Total != 3 || end.Progress.Fraction != 1 || end.Progress.ETA != nil || end.Started == nil || end.Finished == nil || end.Error != nil {
			t.Fatalf("%+v", end)
		}
		status, header, answer := call(t, "GET", h.URL+end.Links.Results, "", nil)
		lines := strings.Split(strings.TrimSpace(string(answer)), "\n")
		if status != 200 || len(lines) != 3 || header.Get("Content-Type") != "application/jsonl" || header.Get("Content-Disposition") != `attachment; filename="my photos.jsonl"` {
			t.Fatalf("%d %v %s", status, header, answer)
		}
		for i, text := range lines {
			var r resultBody
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range r.Detections {
				got = append(got, d.Class)
			}
			if strings.Join(got, " ") != c.want || r.Image != fmt.Sprintf("photo%d.jpg", i) || r.Width != 100 {
				t.Errorf("%s", text)
			}
		}
		if strings.Contains(c.query, "annotate") != (end.Links.Annotated != "") {
			t.Errorf("%+v", end.Links)
		}
		if end.Links.Annotated != "" {
			status, header, answer := call(t, "GET", h.URL+end.Links.Annotated, "", nil)
			z, err := zip.NewReader(bytes.NewReader(answer), int64(len(answer)))
			if status != 200 || err != nil || len(z.File) != 3 || header.Get("Content-Type") != "application/zip" {
				t.Errorf("%d %v", status, err)
			}
		}
	}
	var list jobsBody
	if _, _, answer := call(t, "GET", h.URL+"/v1/jobs", "", nil); json.Unmarshal(answer, &list) != nil || len(list.Jobs) != 3 || list.Jobs[0].Links.Annotated != "" || list.Jobs[1].Links.Annotated == "" {
		t.Errorf("%+v", list)
	}
	r, err := http.NewRequest("GET", h.URL+list.Jobs[0].Links.Results, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Range", "bytes=0-4")
	if status, _, answer := do(t, r); status != 206 || len(answer) != 5 {
		t.Errorf("a range: %d %q", status, answer)
	}
}

func TestJobOfVideo(t *testing.T) {
	_, h, _ := newTestServer(t, jobsConfig(t))
	kind, body := fileForm(t, film(8), "file")
	j := accepted(t, h.URL, "?every=2&track=true", kind, body)
	if j.Kind != "video" || j.Name != "road.y4m" {
		t.Errorf("%+v", j)
	}
	if end, _ := follow(t, h.URL, j.ID); end.State != "done" || end.Progress.Done != 8 {
		t.Errorf("%+v %v", end, end.Error)
	}
	if status, _, answer := call(t, "GET", h.URL+"/v1/jobs/"+j.ID+"/results", "", nil); status != 200 || bytes.Count(answer, []byte("\n")) != 8 || !bytes.Contains(answer, []byte(`"track":1`)) {
		t.Errorf("%d %s", status, answer)
	}
}

// TestJobErrors: everything wrong is a 4xx of the one shape.
func TestJobErrors(t *testing.T) {
	c := jobsConfig(t)
	c.MaxUpload, c.MaxJobBytes = 1<<20, 4<<20
	c.AllowHosts = []string{"videos.example"}
	_, h, _ := newTestServer(t, c)
	good := photos(t, 1)
	two, twoBody := fileForm(t, good, "file", "file")
	other, otherBody := fileForm(t, good, "image")
	none, noneBody := fileForm(t, nil)
	whole, wholeBody := fileForm(t, good, "file")
	for _, e := range []struct {
		name, method, path, kind string
		body                     []byte
		status                   int
		code                     string
	}{
		{"parameter", "POST", "?models=a", "", good, 400, "bad_parameter"},
		{"flag", "POST", "?annotate=yes", "", good, 400, "bad_parameter"},
		{"every", "POST", "?every=0", "", good, 400, "bad_parameter"},
		{"score", "POST", "?score=2", "", good, 400, "bad_parameter"},
		{"class", "POST", "?classes=cow", "", good, 400, "bad_parameter"},
		{"model", "POST", "?model=c", "", good, 404, "unknown_model"},
		{"every of pictures", "POST", "?every=2", "", good, 400, "bad_request"},
		{"empty", "POST", "", "", nil, 422, "bad_input"},
		{"damaged archive", "POST", "", "", good[:len(good)-30], 422, "bad_input"},
		{"text", "POST", "", "", []byte("hello, hello"), 415, "unsupported"},
		{"too large", "POST", "", "", make([]byte, 2<<20), 413, "too_large"},
		{"too large form", "POST", "", whole, append(wholeBody, make([]byte, 2<<20)...), 413, "too_large"},
		{"two files", "POST", "", two, twoBody, 400, "bad_form"},
		{"another part", "POST", "", other, otherBody, 400, "bad_form"},
		{"no part", "POST", "", none, noneBody, 400, "bad_form"},
		{"cut form", "POST", "", whole, wholeBody[:len(wholeBody)-40], 400, ""},
		{"no boundary", "POST", "", "multipart/form-data", good, 400, "bad_form"},
		{"type", "POST", "", "a/b/c", good, 415, "wrong_type"},
		{"no json", "POST", "", "application/json", good, 400, "bad_body"},
		{"wrong json", "POST", "", "application/json", []byte(`{"uri":"x"}`), 400, "bad_body"},
		{"no url", "POST", "", "application/json", []byte(`{}`), 400, "bad_body"},
		{"more json", "POST", "", "application/json", []byte(`{"url":"https://videos.example/a"} {}`), 400, "bad_body"},
		{"long json", "POST", "", "application/json", []byte(`{"url":"` + strings.Repeat("x", 64<<10)), 413, "body_too_large"},
		{"host", "POST", "", "application/json", []byte(`{"url":"https://other.example/a.mp4"}`), 403, "host_forbidden"},
		{"this machine", "POST", "", "application/json", []byte(`{"url":"http://127.0.0.1/a.mp4"}`), 403, "host_forbidden"},
		{"file", "POST", "", "application/json", []byte(`{"url":"file:///etc/passwd"}`), 400, "bad_request"},
		{"unknown", "GET", "/0123456789abcdef01234567", "", nil, 404, "not_found"},
		{"traversal", "GET", "/..%2f..%2fjobs.db/results", "", nil, 404, "not_found"},
		{"method", "PUT", "", "", nil, 405, "wrong_method"},
		{"events of nothing", "GET", "/x/events", "", nil, 404, "not_found"},
		{"stream of nothing", "GET", "/x/stream", "", nil, 404, "not_found"},
		{"delete nothing", "DELETE", "/x", "", nil, 404, "not_found"},
	} {
		t.Run(e.name, func(t *testing.T) {
			status, header, answer := call(t, e.method, h.URL+"/v1/jobs"+e.path, e.kind, e.body)
			if code := failed(t, header, answer); status != e.status || e.code != "" && code != e.code {
				t.Errorf("%d %s", status, answer)
			}
		})
	}
	if _, _, answer := call(t, "GET", h.URL+"/v1/jobs", "", nil); string(answer) != "{\"jobs\":[],\"trains\":false}\n" {
		t.Errorf("jobs of nothing: %s", answer)
	}
	_, without, _ := newTestServer(t, testConfig())
	if status, header, answer := call(t, "GET", without.URL+"/v1/jobs", "", nil); status != 501 || failed(t, header, answer) != "no_jobs" {
		t.Errorf("%d %s", status, answer)
	}
}

// TestJobIsCancelled: by DELETE, which a second time removes it; its events end.
func TestJobIsCancelled(t *testing.T) {
	_, h, f := newTestServer(t, jobsConfig(t))
	f.hold = make(chan struct{})
	j := accepted(t, h.URL, "", "", film(100))
	ended := make(chan jobBody)
	go func() {
		last, _ := follow(t, h.URL, j.ID)
		ended <- last
	}()
	for state(t, h.URL, j.ID).State != "running" {
		time.Sleep(time.Millisecond)
	}
	if status, header, answer := call(t, "GET", h.URL+"/v1/jobs/"+j.ID+"/results", "", nil); status != 409 || failed(t, header, answer) != "not_ready" {
		t.Errorf("%d %s", status, answer)
	}
	status, _, answer := call(t, "DELETE", h.URL+"/v1/jobs/"+j.ID, "", nil)
	if status != 200 || !bytes.Contains(answer, []byte(`"state":"cancelled"`)) {
		t.Errorf("%d %s", status, answer)
	}
	if last := <-ended; last.State != "cancelled" {
		t.Errorf("the events ended with %+v", last)
	}
	if status, _, answer := call(t, "DELETE", h.URL+"/v1/jobs/"+j.ID, "", nil); status != 204 || len(answer) > 0 {
		t.Errorf("%d %s", status, answer)
	}
	if status, _, _ := call(t, "GET", h.URL+"/v1/jobs/"+j.ID, "", nil); status != 404 {
		t.Errorf("%d", status)
	}
}

// TestRequestsPassJobs: while a job waits for the network, a request does not
// wait for the job.
func TestRequestsPassJobs(t *testing.T) {
	s, h, f := newTestServer(t, jobsConfig(t))
	f.hold = make(chan struct{})
	j := accepted(t, h.URL, "", "", photos(t, 20))
	for f.calls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	answered := make(chan int, 1)
	go func() {
		status, _, _ := call(t, "POST", h.URL+"/v1/detect", "image/jpeg", picture(t, 100, 50))
		answered <- status
	}()
	q := s.models.models[0].queue
	for stands := false; !stands; {
		time.Sleep(time.Millisecond)
		q.mu.Lock()
		stands = len(q.waiting[interactive]) == 1
		q.mu.Unlock()
	}
	f.hold <- struct{}{} // the job's pictures that are under way
	f.hold <- struct{}{} // what comes next
	select {
	case status := <-answered:
		if status != 200 {
			t.Errorf("status %d", status)
		}
	case <-time.After(time.Minute):
		t.Error("the job's pictures went first")
	}
	close(f.hold)
	if end, _ := follow(t, h.URL, j.ID); end.State != "done" {
		t.Errorf("%+v", end)
	}
}

// TestJobStream: the running video as MJPEG. A viewer and a reader of events
// who do not read hold nothing up.
func TestJobStream(t *testing.T) {
	_, h, f := newTestServer(t, jobsConfig(t))
	f.hold = make(chan struct{})
	j := accepted(t, h.URL, "", "", film(2000))
	for state(t, h.URL, j.ID).Links.Stream == "" {
		time.Sleep(time.Millisecond)
	}
	for _, path := range []string{"/stream", "/events"} { // who never read
		c, err := net.Dial("tcp", strings.TrimPrefix(h.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, "GET /v1/jobs/%s%s HTTP/1.1\r\nHost: x\r\n\r\n", j.ID, path)
	}
	answer, err := http.Get(h.URL + state(t, h.URL, j.ID).Links.Stream)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if k := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || !strings.HasPrefix(k, "multipart/x-mixed-replace") {
		t.Errorf("%d %s", answer.StatusCode, k)
	}
	close(f.hold)
	_, boundary, _ := strings.Cut(answer.Header.Get("Content-Type"), "boundary=")
	parts, n := multipart.NewReader(answer.Body, boundary), 0
	for {
		p, err := parts.NextPart()
		if err != nil {
			break
		}
		data, err := io.ReadAll(p)
		if err != nil {
			break
		}
		if n++; !bytes.HasPrefix(data, []byte("\xff\xd8\xff")) {
			t.Errorf("picture %d: %.8x", n, data)
		}
	}
	if end, _ := follow(t, h.URL, j.ID); end.State != "done" || n == 0 {
		t.Errorf("%d pictures, %+v", n, end)
	}
	if status, header, body := call(t, "GET", h.URL+"/v1/jobs/"+j.ID+"/stream", "", nil); status != 409 || failed(t, header, body) != "not_ready" {
		t.Errorf("%d %s", status, body)
	}
}

// TestEventsAreBounded: a job that changes all the time makes few events, and
// there is a bound for those who listen.
func TestEventsAreBounded(t *testing.T) {
	c := jobsConfig(t)
	c.MaxLive = 2
	_, h, f := newTestServer(t, c)
	f.hold = make(chan struct{})
	j := accepted(t, h.URL, "", "", film(3000))
	var open []*http.Response
	defer func() {
		for _, r := range open {
			r.Body.Close()
		}
	}()
	for range 2 {
		r, err := http.Get(h.URL + "/v1/jobs/" + j.ID + "/events")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
	}
	if status, header, body := call(t, "GET", h.URL+"/v1/jobs/"+j.ID+"/events", "", nil); status != 429 || failed(t, header, body) != "too_many_streams" || header.Get("Retry-After") == "" {
		t.Errorf("%d %s", status, body)
	}
	begin := time.Now()
	close(f.hold)
	var names []string
	eventsOf(t, open[0].Body, func(e event) { names = append(names, e.name) })
	most := 4 + int(time.Since(begin)/leastPause)
	if len(names) < 2 || len(names) > most || slices.Index(names, "end") != len(names)-1 {
		t.Errorf("%d events, at most %d: %v", len(names), most, names)
	}
	// Latencies are of requests: of these there is the one that was refused.
	if _, _, body := call(t, "GET", h.URL+"/metrics", "", nil); !strings.Contains(string(body), `resdet_request_seconds_count{route="/v1/jobs/:id/events"} 1`+"\n") ||
		!strings.Contains(string(body), "resdet_live_connections ") {
		t.Errorf("metrics count streams: %s", body)
	}
}

// TestStopWithStreams: a server that stops ends events and pictures; the next
// one on the same folder has the job, and does it.
func TestStopWithStreams(t *testing.T) {
	c := jobsConfig(t)
	s, h, f := newTestServer(t, c)
	f.hold = make(chan struct{})
	j := accepted(t, h.URL, "", "", film(10))
	for state(t, h.URL, j.ID).Links.Stream == "" {
		time.Sleep(time.Millisecond)
	}
	events, err := http.Get(h.URL + "/v1/jobs/" + j.ID + "/events")
	if err != nil {
		t.Fatal(err)
	}
	pictures, err := http.Get(h.URL + "/v1/jobs/" + j.ID + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	s.stop(errStopping)
	for _, r := range []*http.Response{events, pictures} {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		r.Body.Close()
	}
	h.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, h, _ = newTestServer(t, c)
	if end, _ := follow(t, h.URL, j.ID); end.State != "done" || end.Progress.Done != 10 {
		t.Errorf("%+v", end)
	}
}

// What the handlers of jobs answer is what the document says.
func TestDocumentedJobs(t *testing.T) {
	_, router := document(t)
	_, h, f := newTestServer(t, jobsConfig(t))
	v := &conforming{t, router, map[string]bool{}}
	client := &http.Client{Transport: v}
	ask := func(method, path, kind string, body []byte, want int) (j jobBody) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s %s: status %d, want %d", method, path, res.StatusCode, want)
		}
		if res.Header.Get("Content-Type") == "application/json; charset=utf-8" {
			if err := json.NewDecoder(res.Body).Decode(&j); err != nil {
				t.Fatal(err)
			}
		}
		return j
	}
	kind, body := fileForm(t, photos(t, 2), "file")
	j := ask("POST", "/v1/jobs?annotate=true&score=0.1&name=x", kind, body, 202)
	at := "/v1/jobs/" + j.ID
	ask("GET", at+"/events", "", nil, 200) // until it is done
	ask("GET", at, "", nil, 200)
	ask("GET", "/v1/jobs", "", nil, 200)
	ask("GET", at+"/results", "", nil, 200)
	ask("GET", at+"/annotated", "", nil, 200)
	ask("GET", at+"/stream", "", nil, 409)
	ask("DELETE", at, "", nil, 204)
	ask("POST", "/v1/jobs", "application/json", []byte(`{"url":"http://x.example/a.mp4"}`), 403)
	ask("POST", "/v1/jobs", "application/octet-stream", []byte("text"), 415)
	f.hold = make(chan struct{})
	j = ask("POST", "/v1/jobs", "video/x-y4m", film(30), 202)
	at = "/v1/jobs/" + j.ID
	for ask("GET", at, "", nil, 200).Links.Stream == "" {
		time.Sleep(time.Millisecond)
	}
	go func() {
		for range 30 {
			time.Sleep(time.Millisecond)
			f.hold <- struct{}{}
		}
	}()
	ask("GET", at+"/stream", "", nil, 200) // until it is over
	ask("GET", at+"/events", "", nil, 200)
	ask("DELETE", at, "", nil, 204)
	f.hold = nil
	ask("DELETE", "/v1/jobs/"+ask("POST", "/v1/jobs", "", film(100_000), 202).ID, "", nil, 200)
	ask("GET", "/v1/live", "", nil, 426)
}
