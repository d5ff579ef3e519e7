package video

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"

	"resdet/internal/video/wire"
)

// openHTTP asks the server what it has. A stream of JPEG pictures is read here,
// as they come, and is live; anything else goes to the helper: it is a file if
// the server says its length, otherwise live.
func openHTTP(ctx context.Context, u *url.URL, o Options) (Source, error) {
	answer, err := get(ctx, u, o)
	if err != nil {
		return nil, err
	}
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") || kind == "image/jpeg" || kind == "video/x-motion-jpeg" {
		first := answer
		return live(ctx, o, func(ctx context.Context) (Source, error) {
			answer := first
			first = nil
			if answer == nil {
				var err error
				if answer, err = get(ctx, u, o); err != nil {
					return nil, err
				}
			}
			info := Info{Name: u.Redacted(), Live: true}
			return pumping(newMJPEG(ctx, answer.Body, answer.Body.Close, info, o))
		})
	}
	answer.Body.Close()
	if o.Dial != nil {
		return nil, fmt.Errorf("video: %s: it is %q, not a stream of JPEG pictures", u.Redacted(), kind)
	}
	order := wire.Open{Mode: wire.Read, Name: u.String(), Start: o.Start}
	info := Info{Name: u.Redacted()}
	if answer.ContentLength > 0 {
		info.Sound = u.String()
		// libavformat itself goes on where the connection broke.
		order.Options = options(o, httpProtocols, "reconnect;1", "reconnect_on_network_error;1", "reconnect_delay_max;4")
		return helped(newHelperSource(ctx, order, info, o))
	}
	order.Options = options(o, httpProtocols)
	info.Live = true
	return live(ctx, o, func(ctx context.Context) (Source, error) {
		return helped(newHelperSource(ctx, order, info, o))
	})
}

// get connects and checks the status. The body's end comes with its Close.
func get(ctx context.Context, u *url.URL, o Options) (*http.Response, error) {
	request, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("video: %s: %w", u.Redacted(), err)
	}
	dial, proxy := o.Dial, (func(*http.Request) (*url.URL, error))(nil)
	if dial == nil {
		dial, proxy = (&net.Dialer{Timeout: o.OpenTimeout}).DialContext, http.ProxyFromEnvironment
	}
	client := &http.Client{Transport: &http.Transport{
		Proxy:                 proxy,
		DialContext:           dial,
		TLSHandshakeTimeout:   o.OpenTimeout,
		ResponseHeaderTimeout: o.OpenTimeout,
		DisableKeepAlives:     true, // a stream is one connection, closed with it
	}}
	connection, cancel := context.WithCancelCause(context.WithoutCancel(ctx)) // lives on after the opening
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	answer, err := client.Do(request.WithContext(connection))
	stop()
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("video: %s: %w", u.Redacted(), bare(err))
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		cancel(nil)
		return nil, fmt.Errorf("video: %s: the server answered %s", u.Redacted(), answer.Status)
	}
	answer.Body = &body{answer.Body, cancel}
	return answer, nil
}

// bare drops the address from an http error, for it may hold a password.
func bare(err error) error {
	if u, ok := err.(*url.Error); ok {
		return u.Err
	}
	return err
}

// body ends the connection when it is closed, also while it is read.
type body struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *body) Close() error {
	b.cancel(io.ErrClosedPipe)
	return b.ReadCloser.Close()
}
