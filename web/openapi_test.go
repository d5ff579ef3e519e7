package web

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
)

// asFiles tells the validator which answers it need not look into.
var asFiles = sync.OnceFunc(func() {
	for _, kind := range []string{"image/jpeg", "text/html", "video/mp4", "application/zip", "application/jsonl", "text/event-stream", "multipart/x-mixed-replace"} {
		openapi3filter.RegisterBodyDecoder(kind, openapi3filter.FileBodyDecoder)
	}
})

// document is the OpenAPI document, found valid.
func document(t testing.TB) (*openapi3.T, routers.Router) {
	t.Helper()
	asFiles()
	d, err := described()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(d.document)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.IsOpenAPI31OrLater()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// Every route is in the document, and the document has no other.
func TestDocumentedRoutes(t *testing.T) {
	doc, _ := document(t)
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("version %s", doc.OpenAPI)
	}
	s, _, _ := newTestServer(t, jobsConfig(t))
	page := regexp.MustCompile(`^/(assets/.*|[^/]*\.[a-z0-9]+)$`) // the page's files, and the style of /docs
	var served, described []string
	for _, r := range s.engine.Routes() {
		if r.Method == "HEAD" || page.MatchString(r.Path) && r.Path != "/openapi.json" {
			continue
		}
		served = append(served, r.Method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}"))
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	for _, r := range served {
		if !slices.Contains(described, r) {
			t.Errorf("%s is served but not described", r)
		}
	}
	for _, r := range described {
		if !slices.Contains(served, r) {
			t.Errorf("%s is described but not served", r)
		}
	}
}

// conforming is a client's transport that holds each request and its answer
// against the document.
type conforming struct {
	t      testing.TB
	router routers.Router
	seen   map[string]bool // operations
}

func (v *conforming) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		return nil, err
	}
	res.Body.Close()
	res.Body = http.NoBody
	if body.Len() > 0 {
		res.Body = readCloser{bytes.NewReader(body.Bytes())}
	}
	plain := r.Clone(r.Context())
	plain.URL.Scheme, plain.URL.Host, plain.Host = "", "", ""
	route, path, err := v.router.FindRoute(plain)
	if err != nil {
		v.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
		return res, nil
	}
	v.seen[route.Operation.OperationID] = true
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: plain, PathParams: path, Route: route},
		Status:                 res.StatusCode, Header: res.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	input.SetBodyBytes(body.Bytes())
	if err := openapi3filter.ValidateResponse(r.Context(), input); err != nil {
		v.t.Errorf("%s %s answers %d otherwise than described: %v\n%.500s", r.Method, r.URL.Path, res.StatusCode, err, body.String())
	}
	return res, nil
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

// What the handlers answer, errors included, is what the document says.
func TestDocumentedAnswers(t *testing.T) {
	_, router := document(t)
	_, h, _ := newTestServer(t, testConfig())
	v := &conforming{t, router, map[string]bool{}}
	client := &http.Client{Transport: v}
	one := picture(t, 40, 30)
	two, twoBody := form(t, one, []byte("none"))
	for _, c := range []struct {
		method, path, kind string
		body               []byte
		status             int
	}{
		{"POST", "/v1/detect", "image/jpeg", one, 200},
		{"POST", "/v1/detect?draw=true", "image/jpeg", one, 200},
		{"POST", "/v1/detect?classes=cat,dog&max=1", two, twoBody, 200},
		{"POST", "/v1/detect?score=2", "image/jpeg", one, 400},
		{"POST", "/v1/detect?model=none", "image/jpeg", one, 404},
		{"POST", "/v1/detect", "image/png", []byte("GIF89a"), 415},
		{"POST", "/v1/compare?a=a&b=b", "image/png", pngPicture(t, 40, 30), 200},
		{"POST", "/v1/compare?a=a", "image/jpeg", one, 400},
		{"GET", "/v1/models", "", nil, 200},
		{"GET", "/healthz", "", nil, 200},
		{"GET", "/readyz", "", nil, 200},
		{"GET", "/metrics", "", nil, 200},
		{"GET", "/openapi.json", "", nil, 200},
		{"GET", "/docs", "", nil, 200},
		{"GET", "/", "", nil, 200},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, h.URL+c.path, bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.kind != "" {
			r.Header.Set("Content-Type", c.kind)
		}
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, res.StatusCode, c.status)
		}
	}
}

// The page names every operation and needs nothing from elsewhere.
func TestDocs(t *testing.T) {
	doc, _ := document(t)
	_, h, _ := newTestServer(t, testConfig())
	_, header, body := call(t, "GET", h.URL+"/docs", "", nil)
	for path, item := range doc.Paths.Map() {
		for method, o := range item.Operations() {
			if !strings.Contains(string(body), `id="`+o.OperationID+`"`) || !strings.Contains(string(body), method+" "+path) {
				t.Errorf("%s %s is not on the page", method, path)
			}
		}
	}
	if regexp.MustCompile(`<script|<style|style=|https?://|\son\w+=`).Match(body) {
		t.Error("the page has a script, an inline style or something from elsewhere")
	}
	if csp := header.Get("Content-Security-Policy"); strings.Contains(csp, "unsafe") || !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("policy %q", csp)
	}
}
