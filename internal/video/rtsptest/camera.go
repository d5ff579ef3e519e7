// Package rtsptest is a camera for tests: as little RTSP as a player needs.
//
//	player ── DESCRIBE, SETUP, PLAY ─▶ Camera
//	       ◀─ JPEG pictures in RTP packets (RFC 2435), over the connection itself
package rtsptest

import (
	"bufio"
	"bytes"
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

// Camera sends one picture again and again, up to 50 times a second.
type Camera struct {
	// Connections so far.
	Connections atomic.Int64

	listener net.Listener
	keep     func(connection, picture int) bool
	redirect string
	scan     []byte // the picture's coded data
	tables   []byte // its two quantisation tables
}

// New starts a camera that shows a JPEG of 64×48 pixels, 4:2:0 with two tables,
// until the test ends. After each picture it asks keep whether to go on. A
// redirect that is not empty is where every player is sent instead.
func New(t testing.TB, picture []byte, redirect string, keep func(connection, picture int) bool) *Camera {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Camera{listener: l, keep: keep, redirect: redirect}
	at := bytes.Index(picture, []byte{0xff, 0xdb}) + 4 // two tables, each behind its number
	c.tables = append(append(c.tables, picture[at+1:at+65]...), picture[at+66:at+130]...)
	at = bytes.Index(picture, []byte{0xff, 0xda})
	at += 2 + int(binary.BigEndian.Uint16(picture[at+2:]))
	c.scan = picture[at : len(picture)-2]
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn, int(c.Connections.Add(1)))
		}
	}()
	return c
}

// Address is where players find it.
func (c *Camera) Address() string { return "rtsp://" + c.listener.Addr().String() + "/cam" }

func (c *Camera) serve(conn net.Conn, connection int) {
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
		if c.redirect != "" {
			fmt.Fprintf(conn, "RTSP/1.0 302 Moved\r\nCSeq: %s\r\nLocation: %s\r\n\r\n", head.Get("CSeq"), c.redirect)
			continue
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

func (c *Camera) play(conn net.Conn, connection int) {
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
