//go:build unix && cgo && !race

package video

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"resdet/internal/video/rtsptest"
)

// TestRTSP: a camera that hangs up is called again, one that stays silent too.
func TestRTSP(t *testing.T) {
	t.Parallel()
	o := realOptions(t)
	o.Reconnect = 30 * time.Second
	o.ReadTimeout = time.Second
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	c := rtsptest.New(t, jpegOf(t, shade(64, 48, 150)), "", func(connection, picture int) bool {
		if picture < 40 {
			return true
		}
		if connection == 2 { // silent, but still there
			<-hang
		}
		return connection > 2
	})
	s, err := Open(context.Background(), c.Address(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if i := s.Info(); !i.Live || i.Width != 64 || i.Height != 48 {
		t.Errorf("%+v", i)
	}
	last := time.Duration(-1)
	for i := 0; c.Connections.Load() < 3 || i < 90; i++ {
		f, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(i, err)
		}
		if f.Index != i || f.Time <= last || grey(f.Image) < 140 || grey(f.Image) > 160 {
			t.Fatalf("frame %d: index %d at %v after %v, level %d", i, f.Index, f.Time, last, grey(f.Image))
		}
		last = f.Time
		f.Release()
		if i > 2000 {
			t.Fatal("it never hung up")
		}
	}
	if n := s.(*reconnecting).reconnects(); n != 2 {
		t.Errorf("%d reconnections", n)
	}
}

func TestRTSPThatNeverWas(t *testing.T) {
	t.Parallel()
	o := realOptions(t)
	o.Reconnect = time.Minute // is for cameras that were there
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "rtsp://user:secret@" + l.Addr().String() + "/cam"
	l.Close()
	_, err = Open(context.Background(), address, o)
	if err == nil || !strings.Contains(err.Error(), "cannot be opened") || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	// A server that accepts and says nothing.
	l, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o.OpenTimeout = 500 * time.Millisecond
	if _, err := Open(context.Background(), "rtsp://"+l.Addr().String()+"/cam", o); err == nil || !strings.Contains(err.Error(), ErrStalled.Error()) {
		t.Errorf("%v", err)
	}
}
