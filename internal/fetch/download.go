package fetch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Errors of downloads, to be told apart by errors.Is.
var (
	ErrTooLarge  = errors.New("the file is larger than the limit")
	ErrRedirects = errors.New("too many redirects")
	ErrInsecure  = errors.New("not HTTPS")
	ErrWebPage   = errors.New("a web page instead of the file")
)

// permanent marks an error that another attempt would meet again.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// download brings the file at address to part, which may hold its beginning.
// It tries again as long as it gets further.
func (c Config) download(ctx context.Context, address, part string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if err := c.allowed(u); err != nil {
		return err
	}
	client := c.client()
	defer client.CloseIdleConnections()
	failures, wait, answered := 0, c.Wait, false
	for {
		before := size(part)
		done, err := c.attempt(ctx, client, address, part)
		var final permanent
		var dial *net.OpError
		unreachable := errors.As(err, &dial) && (dial.Op == "dial" || dial.Op == "proxyconnect")
		answered = answered || !unreachable
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &final):
			return final.error
		case unreachable && !answered: // no network, most likely
			return err
		case size(part) > before:
			failures, wait = 0, c.Wait
		}
		if failures++; failures >= max(1, c.Attempts) {
			return fmt.Errorf("%w (%d times without getting further)", err, failures)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		wait *= 2
	}
}

// client follows redirects within bounds and never to an address that is not
// allowed.
func (c Config) client() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the environment's proxy
	t.DisableCompression = true                          // resuming counts the file's own bytes
	t.ResponseHeaderTimeout = c.Stall
	return &http.Client{Transport: t, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > c.Redirects {
			return permanent{fmt.Errorf("%w: %d, the last to %s", ErrRedirects, len(via), r.URL.Redacted())}
		}
		if err := c.allowed(r.URL); err != nil {
			return permanent{fmt.Errorf("a redirect to %s: %w", r.URL.Redacted(), err)}
		}
		return nil
	}}
}

// allowed reports an address that is not HTTPS.
func (c Config) allowed(u *url.URL) error {
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme == "https" || c.Loopback && loopback && u.Scheme == "http" {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrInsecure, u.Redacted())
}

// origin is what is known of the file that a part is of: enough to ask for the
// rest of the same file.
type origin struct {
	URL string `json:"url"`
	// Validator is the file's strong ETag, or when it was modified.
	Validator string `json:"validator"`
}

// attempt does one request and reports whether the file is whole.
func (c Config) attempt(ctx context.Context, client *http.Client, address, part string) (done bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return false, permanent{err}
	}
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", "resdet")
	have := size(part)
	known := readOrigin(part)
	if have > 0 && known.URL == address && known.Validator != "" {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		r.Header.Set("If-Range", known.Validator)
	} else {
		have = 0
	}
	resp, err := client.Do(r)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	from, total, err := c.accept(resp, have)
	if err != nil {
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			forget(part) // whatever it was, it is not the beginning of this file
		}
		return false, err
	}
	f, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, permanent{err}
	}
	defer f.Close()
	if err := f.Truncate(from); err != nil {
		return false, permanent{err}
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return false, permanent{err}
	}
	if from == 0 {
		if err := writeOrigin(part, origin{address, validator(resp.Header)}); err != nil {
			return false, permanent{err}
		}
	}
	if err := c.copy(ctx, cancel, f, resp.Body, from, total); err != nil {
		return false, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return false, permanent{err}
	}
	return true, nil
}

// accept reads a response's head: from which byte of the file the body is, and
// how many the file has (−1: unknown).
func (c Config) accept(resp *http.Response, have int64) (from, total int64, err error) {
	switch resp.StatusCode {
	case http.StatusOK: // no ranges, or another file than before: from the start
		total = resp.ContentLength
	case http.StatusPartialContent:
		from, total, err = contentRange(resp.Header.Get("Content-Range"))
		if err != nil || from != have {
			return 0, 0, permanent{fmt.Errorf("asked for the bytes from %d, got %q", have, resp.Header.Get("Content-Range"))}
		}
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusRequestedRangeNotSatisfiable,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return 0, 0, fmt.Errorf("the server answers %s", resp.Status)
	default:
		return 0, 0, permanent{fmt.Errorf("the server answers %s", resp.Status)}
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return 0, 0, permanent{fmt.Errorf("the server sends the file in encoding %q, which was not asked for", e)}
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/html" || kind == "application/xhtml+xml" {
		return 0, 0, permanent{fmt.Errorf("%w, at %s", ErrWebPage, resp.Request.URL.Redacted())}
	}
	if total > c.Limit {
		return 0, 0, permanent{fmt.Errorf("%w: %d bytes, %d are allowed", ErrTooLarge, total, c.Limit)}
	}
	return from, total, nil
}

// copy writes the body to the file's end. Nothing for Stall ends it.
func (c Config) copy(ctx context.Context, cancel context.CancelCauseFunc, f *os.File, body io.Reader, done, total int64) error {
	stalled := fmt.Errorf("the server sent nothing for %v", c.Stall)
	watch := time.AfterFunc(c.Stall, func() { cancel(stalled) })
	defer watch.Stop()
	start := done
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		watch.Reset(c.Stall)
		if n > 0 {
			if done == 0 && start == 0 && isPage(buf[:n]) {
				return permanent{ErrWebPage}
			}
			if done += int64(n); done > c.Limit {
				return permanent{fmt.Errorf("%w: %d bytes are allowed", ErrTooLarge, c.Limit)}
			}
			if _, err := f.Write(buf[:n]); err != nil {
				if errors.Is(err, syscall.ENOSPC) && total > 0 {
					err = fmt.Errorf("%w (%d bytes are still to come)", err, total-done)
				}
				return permanent{err}
			}
			if c.Progress != nil {
				c.Progress(done, total)
			}
		}
		switch {
		case err == io.EOF && total >= 0 && done != total:
			return fmt.Errorf("cut off: %d of %d bytes", done, total)
		case err == io.EOF:
			return nil
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		}
	}
}

// isPage reports whether a file begins as HTML does.
func isPage(head []byte) bool {
	head = bytes.ToLower(bytes.TrimSpace(head[:min(len(head), 64)]))
	return bytes.HasPrefix(head, []byte("<!doctype html")) || bytes.HasPrefix(head, []byte("<html"))
}

// contentRange reads "bytes 100-199/200".
func contentRange(s string) (from, total int64, err error) {
	span, all, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	first, _, dash := strings.Cut(span, "-")
	if !ok || !dash || !strings.HasPrefix(s, "bytes ") {
		return 0, 0, errors.New("no range")
	}
	if from, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, err
	}
	if all == "*" {
		return from, -1, nil
	}
	total, err = strconv.ParseInt(all, 10, 64)
	return from, total, err
}

// validator returns what tells whether the file is still the same: a weak ETag
// does not (RFC 9110, section 13.1.5).
func validator(h http.Header) string {
	if tag := h.Get("ETag"); tag != "" && !strings.HasPrefix(tag, "W/") {
		return tag
	}
	return h.Get("Last-Modified")
}

// originFile stands beside a part.
func originFile(part string) string { return part + ".json" }

func readOrigin(part string) (o origin) {
	b, err := os.ReadFile(originFile(part))
	if err != nil || json.Unmarshal(b, &o) != nil {
		return origin{}
	}
	return o
}

func writeOrigin(part string, o origin) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(originFile(part), b, 0o644)
}

// forget removes a part and what is known of it.
func forget(part string) {
	os.Remove(part)
	os.Remove(originFile(part))
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
