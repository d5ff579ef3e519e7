package jobs

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"resdet/internal/video"
)

// fetched is an input that came from an address: a file by now, or a stream.
type fetched struct {
	name    string
	live    bool
	options video.Options // of a stream
	relay   *relay        // that the stream comes through; may be nil
}

func (f fetched) close() {
	if f.relay != nil {
		f.relay.close()
	}
}

// fault is why following the stream failed, better known here than by err.
func (f fetched) fault(err error) error {
	if err != nil && f.relay != nil && f.relay.strayed.Load() {
		return errRedirect
	}
	return err
}

// fetch gets the job's input. Files are copied whole before anything looks at
// them, streams are followed as they come; every connection goes through
// [Hosts].
func (r *run) fetch(ctx context.Context) (fetched, error) {
	u, err := r.q.hosts.parse(r.spec.URL) // the list may have changed since
	if err != nil {
		return fetched{}, err
	}
	o := r.q.videoOptions()
	if u.Scheme == "rtsp" || u.Scheme == "rtsps" {
		relay, err := newRelay(ctx, r.q.hosts, u, o.OpenTimeout)
		if err != nil {
			return fetched{}, err
		}
		local, _ := url.Parse(relay.address())
		r.secret = append(r.secret, local.Redacted())
		return fetched{name: relay.address(), live: true, options: o, relay: relay}, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fetched{}, faultf(BadRequest, "%w", err)
	}
	answer, err := r.q.client(o).Do(request)
	if err != nil {
		return fetched{}, fetchFault(u, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fetched{}, faultf(Unreachable, "%s answered %s", u.Hostname(), answer.Status)
	}
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") {
		o.Dial = r.q.hosts.dial
		r.secret = append(r.secret, u.Redacted())
		return fetched{name: u.String(), live: true, options: o}, nil
	}
	if answer.ContentLength > r.q.cfg.MaxUpload {
		return fetched{}, r.q.tooLarge()
	}
	name := filepath.Join(r.work, inputFile)
	if err := r.q.save(ctx, name, answer.Body, &r.meter); err != nil {
		return fetched{}, fetchFault(u, err)
	}
	f, err := recogniseFile(name)
	if err != nil {
		return fetched{}, err
	}
	r.q.setKind(r.e, f.kind())
	return fetched{name: name}, nil
}

// setKind corrects what the address seemed to promise.
func (q *Queue) setKind(e *entry, k Kind) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if e.Kind != k && e.State == Running {
		e.Kind = k // with the next transaction also in the record
		e.notify()
	}
}

// maxRedirects is what browsers and curl allow, roughly.
const maxRedirects = 10

// client fetches from allowed hosts only: redirects included, for it has no
// other way to connect.
func (q *Queue) client(o video.Options) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := q.hosts.dial(ctx, network, address)
				if err != nil {
					return nil, err
				}
				return &impatient{c, o.ReadTimeout}, nil
			},
			TLSHandshakeTimeout:    o.OpenTimeout,
			ResponseHeaderTimeout:  o.OpenTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
			DisableCompression:     true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return faultf(Unreachable, "it redirects more than %d times", maxRedirects)
			}
			_, err := q.hosts.parse(r.URL.String())
			return err
		},
	}
}

// impatient is a connection whose peer must send something in time.
type impatient struct {
	net.Conn
	patience time.Duration
}

func (c *impatient) Read(b []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(c.patience))
	return c.Conn.Read(b)
}

// fetchFault is why an input could not be fetched, without the address, which
// may hold a password.
func fetchFault(u *url.URL, err error) error {
	var fault *Fault
	var inURL *url.Error
	switch {
	case errors.As(err, &fault):
		return fault
	case errors.As(err, &inURL):
		err = inURL.Err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return faultf(Unreachable, "%s broke off before the end", u.Hostname())
	}
	return faultf(Unreachable, "%s: %w", u.Hostname(), err)
}
