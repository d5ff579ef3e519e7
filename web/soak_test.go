package web

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"testing"
)

// Ten thousand requests, some of them refused, leave neither memory nor
// goroutines.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("ten thousand requests")
	}
	cfg := testConfig()
	cfg.Queue, cfg.MaxImages = 6, 6
	s, err := New(cfg, fakeModel("a", &fake{}))
	if err != nil {
		t.Fatal(err)
	}
	url, end := listen(t, s)
	bodies := [][]byte{picture(t, 40, 30), pngPicture(t, 31, 17), []byte("nonsense"), picture(t, 300, 200)}
	round := func(n int) {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
		defer client.CloseIdleConnections()
		var group sync.WaitGroup
		for c := range 8 {
			group.Go(func() {
				for i := range n / 8 {
					path := "/v1/detect"
					if i%7 == 0 {
						path += "?draw=true"
					}
					res, err := client.Post(url+path, "", bytes.NewReader(bodies[(i+c)%len(bodies)]))
					if err != nil {
						t.Error(err)
						return
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
					if res.StatusCode != 200 && res.StatusCode != 415 && res.StatusCode != 429 {
						t.Errorf("status %d", res.StatusCode)
					}
				}
			})
		}
		group.Wait()
	}
	round(1000)
	before := settled()
	round(10_000)
	returnsTo(t, before, 1<<20)
	if err := end(); err != nil {
		t.Error(err)
	}
}
