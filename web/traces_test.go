package web

import (
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A collector gets the spans of a request within the client's own trace.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	var names []string
	traces := map[string]bool{}
	c := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		var request collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &request); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				for _, span := range scope.Spans {
					names = append(names, span.Name)
					traces[string(span.TraceId)] = true
				}
			}
		}
	}))
	defer c.Close()
	cfg := testConfig()
	cfg.Traces = c.URL
	s, err := New(cfg, fakeModel("a", &fake{}))
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	r, _ := http.NewRequestWithContext(t.Context(), "POST", h.URL+"/v1/detect", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	do(t, r)
	status, _, _ := call(t, "POST", h.URL+"/v1/detect", "image/jpeg", picture(t, 8, 8))
	h.Close()
	if err := s.Close(); err != nil { // sends what it has
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if status != 200 || !slices.Contains(names, "POST /v1/detect") || !slices.Contains(names, "decode") || !slices.Contains(names, "queue") {
		t.Errorf("status %d, spans %v", status, names)
	}
	if !traces["\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c"] || len(traces) != 2 {
		t.Errorf("traces %q", slices.Collect(maps.Keys(traces)))
	}
}
