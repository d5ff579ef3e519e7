package video

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"resdet/internal/transform"
	"resdet/internal/video/wire"
)

// Options say how a source is opened. Start from [DefaultOptions].
type Options struct {
	// OpenTimeout bounds the wait for a source's first frame, ReadTimeout that
	// for each further one.
	OpenTimeout, ReadTimeout time.Duration
	// Reconnect is how long a live source that broke off is tried again; 0:
	// its end is the end.
	Reconnect time.Duration
	// Start is the first time that is wanted: long files are entered near it.
	Start time.Duration
	// Rate in frames per second is for sources that do not say theirs: pictures,
	// MJPEG; 0: 25.
	Rate float64
	// Stdin is what the source "-" reads.
	Stdin io.Reader
	// Helper is the helper program; empty: [FindHelper].
	Helper string
	// Dial makes the connections of http(s) sources; nil: any. With it only
	// MJPEG is followed, for the helper would connect on its own.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Limits bound the pictures that are decoded in this process.
	Limits transform.Limits
}

// DefaultOptions are for sources on a network that works.
func DefaultOptions() Options {
	return Options{OpenTimeout: 15 * time.Second, ReadTimeout: 10 * time.Second, Reconnect: time.Minute, Limits: transform.DefaultLimits()}
}

// Validate names the first option that cannot work.
func (o Options) Validate() error {
	switch {
	case o.OpenTimeout <= 0 || o.ReadTimeout <= 0:
		return fmt.Errorf("video: time-outs of %v and %v: they must be positive", o.OpenTimeout, o.ReadTimeout)
	case o.Reconnect < 0:
		return fmt.Errorf("video: reconnecting for %v: it must not be negative", o.Reconnect)
	case o.Start < 0:
		return fmt.Errorf("video: a start at %v: it must not be negative", o.Start)
	case o.Rate != 0 && !(o.Rate >= 0.01 && o.Rate <= 480):
		return fmt.Errorf("video: %v frames per second: it must be 0.01 to 480", o.Rate)
	}
	return nil
}

func (o Options) rate() float64 {
	if o.Rate > 0 {
		return o.Rate
	}
	return defaultRate
}

func (o Options) helper() (string, error) {
	if o.Helper != "" {
		return o.Helper, nil
	}
	return FindHelper()
}

// Open opens a source by its name: a file, a folder of numbered pictures, "-"
// for standard input (MJPEG or Y4M), an http(s) or rtsp(s) address, a camera's
// number. It waits for the first frame. ctx is for the opening only.
func Open(ctx context.Context, name string, o Options) (Source, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if name == "-" {
		return openStdin(ctx, o)
	}
	if scheme, _, ok := strings.Cut(name, "://"); ok {
		return openAddress(ctx, strings.ToLower(scheme), name, o)
	}
	stat, err := os.Stat(name)
	if camera, ok := cameraNumber(name); ok && (err != nil || !stat.Mode().IsRegular()) {
		return live(ctx, o, func(ctx context.Context) (Source, error) {
			return helped(newHelperSource(ctx, wire.Open{Mode: wire.Read, Camera: camera}, Info{Name: fmt.Sprint("camera ", camera), Live: true}, o))
		})
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("video: %w", err)
	case stat.IsDir():
		return pumping(newFolder(ctx, name, o))
	case !stat.Mode().IsRegular():
		return nil, fmt.Errorf("video: %s is not a file", name)
	case stat.Size() == 0:
		return nil, fmt.Errorf("video: %s: the file is empty", name)
	}
	return openFile(ctx, name, o)
}

// helped and pumping keep a nil of a concrete type from becoming a Source that
// is not nil.
func helped(s *helperSource, err error) (Source, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func pumping(p *pump, err error) (Source, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// cameraNumber is N of N or /dev/videoN.
func cameraNumber(name string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "/dev/video"))
	return n, err == nil && n >= 0 && n < 1000
}

func openStdin(ctx context.Context, o Options) (Source, error) {
	if o.Stdin == nil {
		return nil, errors.New("video: there is no standard input")
	}
	// The first bytes may never come, so that reading them needs the time-out.
	type opened struct {
		source Source
		err    error
	}
	done := make(chan opened, 1)
	go func() {
		r := bufio.NewReaderSize(o.Stdin, 1<<20)
		s, err := openStream(ctx, r, func() error { return nil }, Info{Name: "standard input"}, o)
		done <- opened{s, err}
	}()
	timer := time.NewTimer(o.OpenTimeout)
	defer timer.Stop()
	select {
	case got := <-done:
		return got.source, got.err
	case <-timer.C:
		return nil, fmt.Errorf("video: standard input: %w (%v)", ErrStalled, o.OpenTimeout)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// openStream opens MJPEG or Y4M.
func openStream(ctx context.Context, r *bufio.Reader, close func() error, info Info, o Options) (Source, error) {
	kind, err := sniff(r)
	switch {
	case err != nil:
		close()
		return nil, fmt.Errorf("video: %s: %w", info.Name, err)
	case kind == streamY4M:
		return pumping(newY4M(r, close, info, o))
	case kind == streamMJPEG:
		return pumping(newMJPEG(ctx, r, close, info, o))
	}
	close()
	return nil, &HintError{
		fmt.Errorf("video: %s: it is neither MJPEG nor Y4M", info.Name),
		"for other formats give the file's name, or let ffmpeg convert it: ffmpeg -i FILE -f yuv4mpegpipe - | resdet video -",
	}
}

// openFile reads MJPEG and Y4M here and leaves the rest to the helper.
func openFile(ctx context.Context, name string, o Options) (Source, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	r := bufio.NewReaderSize(file, 1<<20)
	kind, err := sniff(r)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("video: %s: %w", name, err)
	}
	if kind != streamOther {
		return openStream(ctx, r, file.Close, Info{Name: name}, o)
	}
	file.Close()
	path, err := filepath.Abs(name) // so that no name looks like a protocol
	if err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	order := wire.Open{Mode: wire.Read, Name: path, Start: o.Start, Options: options(o, "protocol_whitelist;file,crypto,data")}
	return helped(newHelperSource(ctx, order, Info{Name: name, Sound: path}, o))
}

// options joins libavformat's. Playlists may name other addresses: each kind
// of source has its list of protocols, so that a file cannot call out and an
// address cannot read files. Times are in microseconds.
func options(o Options, more ...string) string {
	return strings.Join(append(more, fmt.Sprint("timeout;", o.ReadTimeout.Microseconds())), "|")
}

const (
	httpProtocols = "protocol_whitelist;http,https,httpproxy,tcp,tls,crypto,data"
	rtspProtocols = "protocol_whitelist;rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,crypto,data"
)

func openAddress(ctx context.Context, scheme, address string, o Options) (Source, error) {
	if len(address) > 4096 {
		return nil, fmt.Errorf("video: an address of %d characters", len(address))
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("video: %q is not an address", address)
	}
	switch scheme {
	case "rtsp", "rtsps":
		// TCP: over UDP a lost packet costs the picture until the next key frame.
		order := wire.Open{Mode: wire.Read, Name: address, Options: options(o, "rtsp_transport;tcp", "fflags;nobuffer", rtspProtocols)}
		info := Info{Name: u.Redacted(), Live: true}
		return live(ctx, o, func(ctx context.Context) (Source, error) {
			return helped(newHelperSource(ctx, order, info, o))
		})
	case "http", "https":
		return openHTTP(ctx, u, o)
	}
	return nil, fmt.Errorf("video: %s: addresses begin with http, https, rtsp or rtsps", u.Redacted())
}
