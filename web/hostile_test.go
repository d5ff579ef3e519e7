package web

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// bombPNG claims 40000×40000 pixels of one bit, and has them.
func bombPNG(t testing.TB) []byte {
	t.Helper()
	const side = 40000
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(kind string, data []byte) {
		binary.Write(&b, binary.BigEndian, uint32(len(data)))
		body := append([]byte(kind), data...)
		b.Write(body)
		binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(body))
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, side), side)
	chunk("IHDR", append(header, 1, 0, 0, 0, 0))
	var pixels bytes.Buffer
	z, _ := zlib.NewWriterLevel(&pixels, zlib.BestSpeed)
	row := make([]byte, 1+side/8)
	for range side {
		z.Write(row)
	}
	z.Close()
	chunk("IDAT", pixels.Bytes())
	chunk("IEND", nil)
	return b.Bytes()
}

// bombGzip is a gigabyte of zeros: sixteen times the same compressed 64 MiB,
// which gzip takes for one file.
func bombGzip(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	zeros := make([]byte, 1<<20)
	for range 64 {
		z.Write(zeros)
	}
	z.Close()
	return bytes.Repeat(b.Bytes(), 16)
}

// multi builds a form by hand, as no library would.
func multi(parts ...string) (kind, body string) {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("--x\r\n" + p + "\r\n")
	}
	b.WriteString("--x--\r\n")
	return "multipart/form-data; boundary=x", b.String()
}

// request is the bytes of a request.
func request(method, path, kind, body string, headers ...string) string {
	h := ""
	if kind != "" {
		h = "Content-Type: " + kind + "\r\n"
	}
	for _, line := range headers {
		h += line + "\r\n"
	}
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n%s\r\n%s", method, path, len(body), h, body)
}

// exchange sends bytes and reads the answer; a server that refuses closes the
// connection while the client still sends.
func exchange(t testing.TB, address, sent string) (int, http.Header, []byte) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	go io.Copy(c, strings.NewReader(sent))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Errorf("no answer to %.60q: %v", sent, err)
		return 0, http.Header{}, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Errorf("answer to %.60q: %v", sent, err)
	}
	return res.StatusCode, res.Header, body
}

// Whatever is sent is answered with a 4xx in the one shape, while another
// client goes on undisturbed, and leaves nothing behind.
func TestHostile(t *testing.T) {
	cfg := testConfig()
	cfg.MaxBody = 4 << 20
	cfg.HeaderTimeout = 2 * time.Second // honest clients are in time on the slowest machine
	s, err := New(cfg, fakeModel("a", &fake{}), fakeModel("b", &fake{}))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	address := strings.TrimPrefix(url, "http://")
	one := string(picture(t, 64, 48))
	const disposition = `Content-Disposition: form-data; name="image"; filename="p.jpg"`
	part := disposition + "\r\n\r\n" + one
	bomb, zeros := string(bombPNG(t)), string(bombGzip(t))
	post := func(kind, body string, headers ...string) string {
		return request("POST", "/v1/detect", kind, body, headers...)
	}
	form := func(parts ...string) string { return post(multi(parts...)) }

	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
		defer client.CloseIdleConnections()
		for {
			select {
			case <-stop:
				return
			default:
			}
			res, err := client.Post(url+"/v1/detect", "image/jpeg", strings.NewReader(one))
			if err != nil {
				t.Errorf("another client: %v", err)
				return
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("another client: status %d", res.StatusCode)
			}
		}
	})

	before := settled()
	for _, c := range []struct {
		name, sent string
		status     int
		code       string
	}{
		{"PNG bomb", post("image/png", bomb), 413, "picture_too_large"},
		{"PNG bomb in a form", form(disposition + "\r\n\r\n" + bomb), 413, "picture_too_large"},
		{"gzip bomb", post("image/png", zeros, "Content-Encoding: gzip"), 415, "encoded_body"},
		{"gzip bomb as picture", post("image/png", zeros), 415, "not_a_picture"},
		{"gzip bomb in a form", form(disposition + "\r\nContent-Encoding: gzip\r\n\r\n" + zeros[:1<<20]), 415, "not_a_picture"},
		{"body too large", post("image/jpeg", strings.Repeat("\xff\xd8\xff\xe0", 2<<20)), 413, "body_too_large"},
		{"10,000 parts", form(strings.Split(strings.Repeat(disposition+"\r\n\r\n|", 10_000), "|")...), 413, "too_many_pictures"},
		{"10,000 other parts", form(strings.Split(strings.Repeat("Content-Disposition: form-data; name=\"x\"\r\n\r\n|", 10_000), "|")...), 400, "bad_form"},
		{"1 MB file name", form(`Content-Disposition: form-data; name="image"; filename="` + strings.Repeat("x", 1<<20) + "\"\r\n\r\n" + one), 400, "bad_name"},
		{"1 MB part name", form(`Content-Disposition: form-data; name="` + strings.Repeat("x", 1<<20) + "\"\r\n\r\n" + one), 400, "bad_form"},
		{"1 MB part header", form("X: " + strings.Repeat("x", 1<<20) + "\r\n" + part + "x"), 200, ""}, // nobody keeps it
		{"10,000 headers", post("image/jpeg", one, strings.Split(strings.Repeat("X-Some: thing\n", 10_000), "\n")...), 431, "headers_too_large"},
		{"1 MB header", post("image/jpeg", one, "X-Some: "+strings.Repeat("x", 1<<20)), 431, "headers_too_large"},
		{"1 MB path", request("GET", "/"+strings.Repeat("x", 1<<20), "", ""), 431, "headers_too_large"},
		{"1,000 parameters", request("POST", "/v1/detect?"+strings.Repeat("a=b&", 1000), "image/jpeg", one), 400, "bad_parameter"},
		{"no boundary", post("multipart/form-data", one), 400, "bad_form"},
		{"odd boundary", post("multipart/form-data; boundary="+strings.Repeat("b", 5000), one), 400, "bad_form"},
		{"wrong boundary", post("multipart/form-data; boundary=y", "--x\r\n\r\n--x--"), 400, "bad_form"},
		{"no parts", post("multipart/form-data; boundary=x", "--x--\r\n"), 400, "no_picture"},
		{"cut form", post("multipart/form-data; boundary=x", "--x\r\n"+part[:len(part)-100]), 400, "cut_body"},
		{"form without headers", post("multipart/form-data; boundary=x", "--x\r\n"+one), 400, "bad_form"},
		{"nested form", form("Content-Disposition: form-data; name=\"image\"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--"), 415, "not_a_picture"},
		{"malformed type", post("image/jpeg; ; =", one), 415, "wrong_type"},
		{"JSON", post("application/json", "{"), 415, "wrong_type"},
		{"malformed escape", request("POST", "/v1/detect?model=%f", "image/jpeg", one), 400, "bad_parameter"},
		{"semicolons", request("POST", "/v1/detect?model=a;score=1", "image/jpeg", one), 400, "bad_parameter"},
		{"NUL in the model", request("POST", "/v1/detect?model=%00%0d%0a", "image/jpeg", one), 404, "unknown_model"},
		{"traversal", request("GET", "/../../etc/passwd", "", ""), 404, "not_found"},
		{"escaped traversal", request("GET", "/%2e%2e%2f%2e%2e%2fetc/passwd", "", ""), 404, "not_found"},
		{"traversal of assets", request("GET", "/assets/..%2f..%2fetc%2fpasswd", "", ""), 404, "not_found"},
		{"backslashes", request("GET", `/..\..\etc\passwd`, "", ""), 404, "not_found"},
		{"traversal of models", request("POST", "/v1/detect?model=../../etc/passwd", "image/jpeg", one), 404, "unknown_model"},
		{"method", request("BREW", "/v1/detect", "", ""), 405, "wrong_method"},
		{"TRACE", request("TRACE", "/", "", ""), 405, "wrong_method"},
		{"CONNECT", request("CONNECT", "/v1/detect", "", ""), 405, "wrong_method"},
		{"no HTTP", "hello\r\n\r\n", 400, "bad_request"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 400, "bad_request"},
		{"bad header", "GET / HTTP/1.1\r\nHost: x\r\n broken\r\n\r\n", 400, "bad_request"},
		{"two lengths", "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "bad_request"},
		{"negative length", "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "bad_request"},
		{"bad chunk", "POST /v1/detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "bad_body"},
		{"unknown encoding", "POST /v1/detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, ""},
		{"Expect", post("image/jpeg", one, "Expect: the-impossible"), 417, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, header, body := exchange(t, address, c.sent)
			if status != c.status {
				t.Fatalf("status %d, want %d: %.300s", status, c.status, body)
			}
			if c.code != "" {
				if code := failed(t, header, body); code != c.code {
					t.Errorf("code %s, want %s: %s", code, c.code, body)
				}
				if len(body) > 4096 {
					t.Errorf("the answer has %d bytes", len(body))
				}
			}
		})
	}

	t.Run("names", func(t *testing.T) {
		_, _, body := exchange(t, address, form(`Content-Disposition: form-data; name="image"; filename="../../etc/passwd"`+"\r\n\r\n"+one))
		if !strings.HasPrefix(string(body), `{"image":"passwd",`) {
			t.Errorf("%.100s", body)
		}
	})
	t.Run("half closed", func(t *testing.T) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, post("image/jpeg", one)[:200])
		c.(*net.TCPConn).CloseWrite()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if code := failed(t, res.Header, body); res.StatusCode != 400 || code != "cut_body" {
			t.Errorf("%d %s", res.StatusCode, code)
		}
	})
	t.Run("slow", func(t *testing.T) { // all at once: each takes its time
		for _, c := range []struct {
			name, sent string
			status     int
			code       string
		}{
			{"a body that stalls", strings.Replace(post("image/jpeg", one[:100]), "Content-Length: 100", "Content-Length: 9999", 1), 408, "slow_body"},
			{"a body that nobody wants stalls", strings.Replace(request("POST", "/healthz", "image/jpeg", one[:100]), "Content-Length: 100", "Content-Length: 9999", 1), 405, "wrong_method"},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				status, header, body := exchange(t, address, c.sent)
				if code := failed(t, header, body); status != c.status || code != c.code {
					t.Errorf("%d %s, want %d %s", status, code, c.status, c.code)
				}
			})
		}
		t.Run("slow headers", func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, "GET / HTTP/1.1\r\nHost:")
			c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.ReadAll(c); err != nil {
				t.Errorf("the connection stays open: %v", err)
			}
		})
		t.Run("a drip", func(t *testing.T) { // always a byte in time, and never enough
			t.Parallel()
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			sent := post("image/jpeg", one)
			begin := strings.Index(sent, "\r\n\r\n") + 4
			io.WriteString(c, sent[:begin])
			go func() {
				for i := begin; i < len(sent); i++ {
					if _, err := io.WriteString(c, sent[i:i+1]); err != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}()
			c.SetReadDeadline(time.Now().Add(time.Minute))
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if code := failed(t, res.Header, body); res.StatusCode != 408 || code != "slow_body" {
				t.Errorf("%d %s", res.StatusCode, code)
			}
		})
	})
	t.Run("who takes no answer", func(t *testing.T) { // many at once, with full pipes
		for range 20 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, request("POST", "/v1/detect?draw=true", "image/jpeg", one))
		}
	})

	close(stop)
	others.Wait()
	// The last of them are still under way.
	eventually(func() bool { return s.budget.inUse() == 0 && s.models.models[0].queue.length() == 0 })
	if bytes, places := s.budget.inUse(), s.models.models[0].queue.length(); bytes != 0 || places != 0 {
		t.Errorf("%d bytes are still accounted for, %d places taken", bytes, places)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	returnsTo(t, before, 8<<20)
}

// usage is what a leak would show in.
type usage struct {
	heap       uint64 // bytes
	goroutines int
}

// settled is the usage once connections have ended and garbage is collected.
func settled() usage {
	var u usage
	for range 100 {
		last := u
		if u = used(); u.goroutines == last.goroutines && u.heap >= last.heap {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return u
}

func used() usage {
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{m.HeapAlloc, runtime.NumGoroutine()}
}

// returnsTo waits for the usage to be what it was before, but for some bytes:
// connections take their time to end, and a leak never does.
func returnsTo(t *testing.T, before usage, slack uint64) {
	t.Helper()
	var after usage
	if !eventually(func() bool {
		after = used()
		return after.heap <= before.heap+slack && after.goroutines <= before.goroutines
	}) {
		t.Errorf("from %+v to %+v", before, after)
	}
}

// Every route answers every wrong method with the one shape, and says which
// are right.
func TestWrongMethods(t *testing.T) {
	s, h, _ := newTestServer(t, jobsConfig(t))
	allowed := map[string][]string{}
	for _, r := range s.engine.Routes() {
		allowed[r.Path] = append(allowed[r.Path], r.Method)
	}
	for path, methods := range allowed {
		for _, method := range []string{"PUT", "PATCH", "TRACE", "BREW", "DELETE", "POST"} {
			if strings.Contains(strings.Join(methods, " "), method) {
				continue
			}
			status, header, body := call(t, method, h.URL+strings.ReplaceAll(path, ":id", "1"), "", nil)
			if code := failed(t, header, body); status != 405 || code != "wrong_method" {
				t.Errorf("%s %s: %d %s", method, path, status, code)
			}
			for _, m := range methods {
				if !strings.Contains(header.Get("Allow"), m) {
					t.Errorf("%s %s: Allow is %q, without %s", method, path, header.Get("Allow"), m)
				}
			}
		}
	}
}
