package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestKeys(t *testing.T) {
	cfg := testConfig()
	cfg.Keys = []string{"first-key-of-the-test", "second-key-of-the-test"}
	_, h, _ := newTestServer(t, cfg)
	get := func(path string, set func(*http.Request)) (int, http.Header, []byte) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", h.URL+path, nil)
		if set != nil {
			set(r)
		}
		return do(t, r)
	}
	for name, c := range map[string]struct {
		set  func(*http.Request)
		want int
	}{
		"none":      {nil, 401},
		"wrong":     {func(r *http.Request) { r.Header.Set("X-API-Key", "first-key-of-the-tesT") }, 401},
		"prefix":    {func(r *http.Request) { r.Header.Set("X-API-Key", "first-key-of-the") }, 401},
		"empty":     {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 401},
		"header":    {func(r *http.Request) { r.Header.Set("X-API-Key", cfg.Keys[1]) }, 200},
		"bearer":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+cfg.Keys[0]) }, 200},
		"cookie":    {func(r *http.Request) { r.AddCookie(&http.Cookie{Name: keyCookie, Value: cfg.Keys[0]}) }, 200},
		"not basic": {func(r *http.Request) { r.SetBasicAuth("x", cfg.Keys[0]) }, 401},
	} {
		for _, path := range []string{"/v1/models", "/metrics"} {
			status, header, body := get(path, c.set)
			if status != c.want {
				t.Errorf("%s %s: %d, want %d", name, path, status, c.want)
			}
			if status == 401 && (failed(t, header, body) != "no_key" || header.Get("WWW-Authenticate") == "") {
				t.Errorf("%s: %s", name, body)
			}
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/", "/docs", "/openapi.json"} {
		if status, _, _ := get(path, nil); status != 200 {
			t.Errorf("%s needs a key: %d", path, status)
		}
	}
}

func TestRates(t *testing.T) {
	cfg := testConfig()
	cfg.Rate, cfg.Burst = 0.001, 3
	cfg.Proxies = []string{"127.0.0.1"}
	_, h, _ := newTestServer(t, cfg)
	from := func(address string) (int, http.Header, []byte) {
		r, _ := http.NewRequestWithContext(t.Context(), "GET", h.URL+"/v1/models", nil)
		r.Header.Set("X-Forwarded-For", address)
		return do(t, r)
	}
	for i := range 5 {
		status, header, body := from("203.0.113.7")
		if want := map[bool]int{true: 200, false: 429}[i < 3]; status != want {
			t.Errorf("request %d: %d, want %d", i+1, status, want)
		}
		if status == 429 && (failed(t, header, body) != "too_many_requests" || header.Get("Retry-After") == "") {
			t.Errorf("%s", body)
		}
	}
	for i, address := range []string{"203.0.113.8", "2001:db8::1", "2001:db8::2", "2001:db8::3"} {
		if status, _, _ := from(address); status != 200 {
			t.Errorf("address %d is refused for another's requests", i)
		}
	}
	if status, _, _ := from("2001:db8::4"); status != 429 {
		t.Error("a customer's whole IPv6 network counts as one address")
	}
	if status, _, _ := call(t, "GET", h.URL+"/healthz", "", nil); status != 200 {
		t.Error("health counts")
	}
}

// Who invents addresses cannot fill the memory.
func TestRatesBounded(t *testing.T) {
	r := newRates(1, 1)
	for i := range 3 * maxRates {
		r.allow(fmt.Sprint("address ", i))
	}
	if len(r.byName) != maxRates || r.recent.Len() != maxRates {
		t.Errorf("%d names are kept", len(r.byName))
	}
}

func TestOrigins(t *testing.T) {
	cfg := testConfig()
	cfg.Origins = []string{"https://good.example"}
	_, h, _ := newTestServer(t, cfg)
	for _, c := range []struct {
		method, origin, site string
		preflight            bool
		status               int
		allowed              bool
	}{
		{"GET", "", "", false, 200, false},
		{"GET", "https://good.example", "cross-site", false, 200, true},
		{"GET", "https://evil.example", "cross-site", false, 200, false}, // the browser keeps the answer from the page
		{"POST", "https://good.example", "cross-site", false, 400, true}, // let in, and then without a picture
		{"POST", "https://evil.example", "cross-site", false, 403, false},
		{"POST", "", "", false, 400, false}, // no browser
		{"OPTIONS", "https://good.example", "", true, 204, true},
		{"OPTIONS", "https://evil.example", "", true, 403, false},
	} {
		path := "/v1/models"
		if c.method != "GET" {
			path = "/v1/detect"
		}
		r, _ := http.NewRequestWithContext(t.Context(), c.method, h.URL+path, nil)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		if c.site != "" {
			r.Header.Set("Sec-Fetch-Site", c.site)
		}
		if c.preflight {
			r.Header.Set("Access-Control-Request-Method", "POST")
		}
		status, header, _ := do(t, r)
		if allowed := header.Get("Access-Control-Allow-Origin") == "https://good.example"; status != c.status || allowed != c.allowed {
			t.Errorf("%s from %q: %d, allowed %v", c.method, c.origin, status, allowed)
		}
		if !strings.Contains(header.Get("Vary"), "Origin") {
			t.Errorf("caches would mix origins")
		}
	}
}
