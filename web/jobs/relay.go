package jobs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// relay stands between the helper, which speaks RTSP, and an allowed host, so
// that the helper connects to nobody else: neither by a name that resolves to
// another address the second time, nor by a redirect, which ends the stream
// here.
//
//	helper ── rtsp://127.0.0.1:PORT ──▶ relay ── Hosts.dial, TLS for rtsps ──▶ camera
//
// Everything goes over the one connection (RTP interleaved): the helper is told
// so, and other transports would not come through.
type relay struct {
	hosts    *Hosts
	camera   *url.URL
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup
	strayed  atomic.Bool // the camera has redirected
}

// newRelay listens for the helper. It connects to the camera when the helper
// comes, each time anew; a first connection shows whether there is somebody.
func newRelay(ctx context.Context, hosts *Hosts, camera *url.URL, patience time.Duration) (*relay, error) {
	r := &relay{hosts: hosts, camera: camera}
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	probe, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := r.dial(probe)
	if err != nil {
		r.cancel()
		return nil, err
	}
	c.Close()
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		r.cancel()
		return nil, faultf(Internal, "jobs: %w", err)
	}
	r.running.Go(r.serve)
	return r, nil
}

// address is the camera's for the helper.
func (r *relay) address() string {
	u := *r.camera
	u.Scheme, u.Host = "rtsp", r.listener.Addr().String()
	return u.String()
}

func (r *relay) close() error {
	r.cancel()
	err := r.listener.Close()
	r.running.Wait()
	return err
}

func (r *relay) dial(ctx context.Context) (net.Conn, error) {
	port := r.camera.Port()
	if port == "" {
		port = map[string]string{"rtsp": "554", "rtsps": "322"}[r.camera.Scheme]
	}
	c, err := r.hosts.dial(ctx, "tcp", net.JoinHostPort(r.camera.Hostname(), port))
	if err != nil || r.camera.Scheme != "rtsps" {
		return c, err
	}
	secure := tls.Client(c, &tls.Config{ServerName: r.camera.Hostname(), MinVersion: tls.VersionTLS12})
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, faultf(Unreachable, "%s: %w", r.camera.Hostname(), err)
	}
	return secure, nil
}

func (r *relay) serve() {
	for {
		helper, err := r.listener.Accept()
		if err != nil {
			return // closed
		}
		r.running.Go(func() {
			defer helper.Close()
			camera, err := r.dial(r.ctx)
			if err != nil {
				return
			}
			defer camera.Close()
			defer context.AfterFunc(r.ctx, func() { camera.Close(); helper.Close() })()
			r.running.Go(func() {
				defer camera.Close()
				defer helper.Close()
				io.Copy(camera, helper)
			})
			if err := forward(helper, camera); errors.Is(err, errRedirect) {
				r.strayed.Store(true)
			}
		})
	}
}

// Limits of what a camera says besides pictures.
const (
	maxRTSPHeader = 64 << 10
	maxRTSPBody   = 1 << 20
)

// errRedirect ends a stream whose camera names another one.
var errRedirect = faultf(Forbidden, "the camera redirects to another address: submit that one")

// forward copies what a camera sends (RFC 2326: answers, requests, and
// interleaved packets) until it redirects or says what is not RTSP.
func forward(to io.Writer, from io.Reader) error {
	in := bufio.NewReaderSize(from, maxRTSPHeader)
	for {
		first, err := in.Peek(1)
		if err != nil {
			return err
		}
		if first[0] == '$' { // channel, length, packet (section 10.12)
			head, err := in.Peek(4)
			if err != nil {
				return err
			}
			if _, err := io.CopyN(to, in, 4+int64(head[2])<<8+int64(head[3])); err != nil {
				return err
			}
			continue
		}
		if err := forwardMessage(to, in); err != nil {
			return err
		}
	}
}

// forwardMessage copies one message of text with its body.
func forwardMessage(to io.Writer, in *bufio.Reader) error {
	var head strings.Builder
	for begun, ended := false, false; !ended; {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err // also of a line that is too long
		}
		blank := len(bytes.TrimSpace(line)) == 0
		begun, ended = begun || !blank, begun && blank // blank lines may stand before it
		if head.Write(line); head.Len() > maxRTSPHeader {
			return errors.New("jobs: an RTSP header is too long")
		}
	}
	text := textproto.NewReader(bufio.NewReader(strings.NewReader(head.String())))
	first, err := text.ReadLine()
	for err == nil && first == "" {
		first, err = text.ReadLine()
	}
	if err != nil {
		return err
	}
	fields, err := text.ReadMIMEHeader()
	if err != nil {
		return fmt.Errorf("jobs: an RTSP header: %w", err)
	}
	if words := strings.Fields(first); len(words) < 2 || strings.HasPrefix(words[1], "3") || words[0] == "REDIRECT" {
		return errRedirect
	}
	length := 0
	if said := fields.Get("Content-Length"); said != "" {
		if length, err = strconv.Atoi(said); err != nil || length < 0 || length > maxRTSPBody {
			return fmt.Errorf("jobs: an RTSP message of %q bytes", said)
		}
	}
	if _, err := io.WriteString(to, head.String()); err != nil {
		return err
	}
	_, err = io.CopyN(to, in, int64(length))
	return err
}
