package video

import (
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"net/http"
	"sync"
	"time"
)

// Broadcast is a sink that shows the newest picture to any number of HTTP
// clients as MJPEG (multipart/x-mixed-replace), which browsers show in an
// <img>. A slow client misses pictures and holds nobody up; without clients
// nothing is encoded. It is an [http.Handler].
type Broadcast struct {
	mu      sync.Mutex
	clients int
	newest  []byte        // JPEG
	changed chan struct{} // closed when newest changes or the run ends
	closed  bool
}

// NewBroadcast returns a broadcast without clients.
func NewBroadcast() *Broadcast { return &Broadcast{changed: make(chan struct{})} }

const (
	partBoundary = "resdetframe"
	// clientTimeout is how long a client may take to read one picture.
	clientTimeout = 10 * time.Second
)

// Draws reports that pictures are wanted.
func (b *Broadcast) Draws() bool { return true }

// Write encodes the picture if somebody looks.
func (b *Broadcast) Write(_ context.Context, r *Result) error {
	b.mu.Lock()
	watched := b.clients > 0
	b.mu.Unlock()
	if !watched {
		return nil
	}
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, r.Picture, &jpeg.Options{Quality: 80}); err != nil {
		return fmt.Errorf("video: encoding a picture for HTTP: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.newest = buf.Bytes()
	close(b.changed)
	b.changed = make(chan struct{})
	return nil
}

// Close ends all clients' streams.
func (b *Broadcast) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.changed)
	}
	return nil
}

// ServeHTTP sends pictures until the client goes or the run ends.
func (b *Broadcast) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "multipart/x-mixed-replace; boundary="+partBoundary)
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	b.mu.Lock()
	b.clients++
	changed, closed := b.changed, b.closed
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.clients--
		b.mu.Unlock()
	}()
	control := http.NewResponseController(w)
	// A browser shows a part when the boundary behind it has come, so that it is
	// sent with the part before.
	fmt.Fprintf(w, "--%s\r\n", partBoundary)
	control.Flush()
	for !closed {
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
		b.mu.Lock()
		picture := b.newest
		changed, closed = b.changed, b.closed
		b.mu.Unlock()
		if closed {
			break
		}
		control.SetWriteDeadline(time.Now().Add(clientTimeout))
		fmt.Fprintf(w, "Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n", len(picture))
		w.Write(picture)
		fmt.Fprintf(w, "\r\n--%s\r\n", partBoundary)
		if control.Flush() != nil {
			return
		}
	}
}
