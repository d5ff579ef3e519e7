//go:build unix && cgo && !race

package video

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// rtspCamera is a camera of as little RTSP as a player needs: JPEG pictures
// (RFC 2435) over the connection itself, up to 50 a second. After each picture it
// asks keep whether to go on.
type rtspCamera struct {
	listener    net.Listener
	connections atomic.Int64
	keep        func(connection, picture int) bool
	scan        []byte // the picture's coded data
	tables      []byte // its two quantisation tables
}

func newRTSPCamera(t *testing.T, keep func(connection, picture int) bool) *rtspCamera {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &rtspCamera{listener: l, keep: keep}
	data := jpegOf(t, shade(64, 48, 150))
	at := bytes.Index(data, []byte{0xff, 0xdb}) + 4 // two tables, each behind its number
	c.tables = append(append(c.tables, data[at+1:at+65]...), data[at+66:at+130]...)
	at = bytes.Index(data, []byte{0xff, 0xda})
	at += 2 + int(binary.BigEndian.Uint16(data[at+2:]))
	c.scan = data[at : len(data)-2]
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn, int(c.connections.Add(1)))
		}
	}()
	return c
}

func (c *rtspCamera) address() string { return "rtsp://" + c.listener.Addr().String() + "/cam" }

func (c *rtspCamera) serve(conn net.Conn, connection int) {
	defer conn.Close()
	r := textproto.NewReader(bufio.NewReader(conn))
	for {
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		head, err := r.ReadMIMEHeader()
		if err != nil && err != io.EOF {
			return
		}
		answer := "RTSP/1.0 200 OK\r\nCSeq: " + head.Get("CSeq") + "\r\n"
		switch method, _, _ := strings.Cut(line, " "); method {
		case "OPTIONS":
			answer += "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
		case "DESCRIBE":
			sdp := "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=framerate:25\r\na=control:track1\r\n"
			answer += fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", len(sdp), sdp)
		case "SETUP":
			answer += "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
		case "PLAY":
			io.WriteString(conn, answer+"Session: 1\r\n\r\n")
			c.play(conn, connection)
			return
		default:
			return
		}
		io.WriteString(conn, answer)
	}
}

func (c *rtspCamera) play(conn net.Conn, connection int) {
	for i := 0; c.keep(connection, i); i++ {
		const fragment = 1200
		for at := 0; at < len(c.scan); at += fragment {
			piece := c.scan[at:min(at+fragment, len(c.scan))]
			p := []byte{'$', 0, 0, 0, 0x80, 26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
			if at+len(piece) == len(c.scan) {
				p[5] |= 0x80 // the picture's last packet
			}
			binary.BigEndian.PutUint16(p[6:], uint16(i*(1+len(c.scan)/fragment)+at/fragment))
			binary.BigEndian.PutUint32(p[8:], uint32(i*3600))
			p = append(p, 0, byte(at>>16), byte(at>>8), byte(at), 1, 255, 64/8, 48/8)
			if at == 0 {
				p = append(append(p, 0, 0, 0, 128), c.tables...)
			}
			p = append(p, piece...)
			binary.BigEndian.PutUint16(p[2:], uint16(len(p)-4))
			if _, err := conn.Write(p); err != nil {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestRTSP: a camera that hangs up is called again, one that stays silent too.
func TestRTSP(t *testing.T) {
	t.Parallel()
	o := realOptions(t)
	o.Reconnect = 30 * time.Second
	o.ReadTimeout = time.Second
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	c := newRTSPCamera(t, func(connection, picture int) bool {
		if picture < 40 {
			return true
		}
		if connection == 2 { // silent, but still there
			<-hang
		}
		return connection > 2
	})
	s, err := Open(context.Background(), c.address(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if i := s.Info(); !i.Live || i.Width != 64 || i.Height != 48 {
		t.Errorf("%+v", i)
	}
	last := time.Duration(-1)
	for i := 0; c.connections.Load() < 3 || i < 90; i++ {
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
