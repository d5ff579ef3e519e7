package web

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"time"

	"resdet/web/jobs"
)

// Config says how a server behaves. Start from [DefaultConfig].
type Config struct {
	// Addr is host:port to listen on; [Server.Serve] does not use it.
	Addr string

	// Queue is how many pictures of requests may wait for one model or be under
	// way in it; more are refused with 429. It bounds the latency: an accepted
	// picture waits for at most so many others.
	Queue int
	// Turns is how many calls of models run at a time: the workers of one model
	// for each model that may compute. Two models at once on the same cores, each
	// with a thread for every core, take more than twice as long.
	Turns int
	// Batch is how many waiting pictures of one shape a model gets at once, and
	// BatchWait how long the first of them waits for others. With 1 nothing
	// ever waits for company.
	Batch     int
	BatchWait time.Duration
	// Decoders is how many pictures are decoded at a time: the network's threads
	// need the cores.
	Decoders int
	// Memory bounds the bytes of all bodies and pictures that are in the server
	// at a time; what does not fit is refused with 429.
	Memory int64

	// MaxBody is the most bytes of a request with pictures, MaxPixels the most
	// pixels of a picture, MaxImages the most pictures of a request.
	MaxBody   int64
	MaxPixels int64
	MaxImages int
	// MaxConns is how many connections are open at a time; more wait to be
	// accepted.
	MaxConns int
	// HeaderTimeout is for a request's headers, IdleTimeout for the next request
	// of a connection, WriteTimeout for a client to take an answer. A body must
	// come with MinRate bytes a second, after a grace of HeaderTimeout.
	HeaderTimeout, IdleTimeout, WriteTimeout time.Duration
	MinRate                                  int64
	// MaxWait is the longest that a request may take from its body's end to its
	// answer; a client may ask for less with X-Deadline.
	MaxWait time.Duration
	// Drain is how long requests under way may take when the server is told to
	// stop.
	Drain time.Duration

	// Keys are the API keys, one of which a request to /v1 or /metrics must
	// carry; none: everybody may.
	Keys []string
	// Origins are the pages of other hosts that may use the API (CORS):
	// "https://example.org", or "*" for all.
	Origins []string
	// Rate is how many requests to /v1 per second each key and each address may
	// make on average, Burst how many at once; Rate 0: no limit.
	Rate  float64
	Burst int
	// Proxies are the addresses, or networks in CIDR notation, whose
	// X-Forwarded-For is believed.
	Proxies []string

	// StateDir is the folder in which jobs live through a restart; empty: there
	// are no jobs.
	StateDir string
	// MaxJobs is how many jobs are kept, finished ones included, MaxUpload the
	// most bytes of a job's input, MaxJobBytes the most that all jobs may take on
	// disk, JobAge how long a finished job is kept.
	MaxJobs     int
	MaxUpload   int64
	MaxJobBytes int64
	JobAge      time.Duration
	// Trainer trains models for jobs, in the folder TrainDir; nil: nothing is
	// trained. There, MaxTrained models are kept at most, and all files take at
	// most MaxTrainBytes.
	Trainer       jobs.Trainer
	TrainDir      string
	MaxTrained    int
	MaxTrainBytes int64
	// MaxLive is how many live connections (WebSocket, MJPEG, events) may be open
	// at a time.
	MaxLive int
	// AllowHosts are the hosts from which jobs may fetch videos; none: nothing is
	// fetched.
	AllowHosts []string

	// Traces is the address of an OTLP collector (http://host:4318); empty: no
	// traces.
	Traces string
	// Log is told of requests and of what goes wrong.
	Log *slog.Logger
}

// DefaultConfig serves this machine alone, with limits for photos from cameras.
func DefaultConfig() Config {
	return Config{
		Addr:  "127.0.0.1:8080",
		Queue: 64, Turns: 1, Batch: 1, BatchWait: 3 * time.Millisecond, Decoders: 1, Memory: 1 << 30,
		MaxBody: 32 << 20, MaxPixels: 50e6, MaxImages: 16, MaxConns: 1024,
		HeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, WriteTimeout: 30 * time.Second, MinRate: 16 << 10,
		MaxWait: time.Minute, Drain: 30 * time.Second,
		Burst:   20,
		MaxJobs: 100, MaxUpload: 2 << 30, MaxJobBytes: 10 << 30, JobAge: 7 * 24 * time.Hour, MaxLive: 16,
		MaxTrained: 10, MaxTrainBytes: 20 << 30,
		Log: slog.New(slog.DiscardHandler),
	}
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("web: "+format, args...))
		}
	}
	_, _, err := net.SplitHostPort(c.Addr)
	check(err == nil, "addr %q is not HOST:PORT", c.Addr)
	for _, n := range []struct {
		name       string
		value, top int64
	}{
		{"queue", int64(c.Queue), 1 << 16}, {"turns", int64(c.Turns), 1 << 16}, {"batch", int64(c.Batch), 64}, {"decoders", int64(c.Decoders), 256},
		{"memory", c.Memory, 1 << 50}, {"max body", c.MaxBody, 1 << 40}, {"max pixels", c.MaxPixels, 1 << 32}, {"max images", int64(c.MaxImages), 1024},
		{"max conns", int64(c.MaxConns), 1 << 20}, {"min rate", c.MinRate, 1 << 40}, {"burst", int64(c.Burst), 1 << 20},
		{"max jobs", int64(c.MaxJobs), 1 << 20}, {"max upload", c.MaxUpload, 1 << 50}, {"max job bytes", c.MaxJobBytes, 1 << 60}, {"max live", int64(c.MaxLive), 1 << 16},
		{"max trained", int64(c.MaxTrained), 1 << 10}, {"max train bytes", c.MaxTrainBytes, 1 << 60},
	} {
		check(n.value >= 1 && n.value <= n.top, "%s %d is not in 1…%d", n.name, n.value, n.top)
	}
	check(c.MaxBody <= c.Memory, "max body %d is more than memory %d, so that no such request could be taken", c.MaxBody, c.Memory)
	check(c.MaxImages <= c.Queue, "max images %d is more than queue %d, so that no such request could be taken", c.MaxImages, c.Queue)
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"header timeout", c.HeaderTimeout}, {"idle timeout", c.IdleTimeout}, {"write timeout", c.WriteTimeout},
		{"max wait", c.MaxWait}, {"drain", c.Drain}, {"job age", c.JobAge},
	} {
		check(d.value > 0, "%s %v is not positive", d.name, d.value)
	}
	check(c.BatchWait >= 0 && c.BatchWait <= time.Second, "batch wait %v is not in 0…1s", c.BatchWait)
	check(c.Rate >= 0 && c.Rate <= 1e6, "rate %v is not in 0…1e6", c.Rate)
	for i, k := range c.Keys {
		check(len(k) >= minKey && len(k) <= maxKey, "key %d has %d bytes: %d to %d are needed", i+1, len(k), minKey, maxKey)
	}
	for _, o := range c.Origins {
		u, err := url.Parse(o)
		check(o == "*" || err == nil && u.Host != "" && u.Scheme+"://"+u.Host == o, "origin %q is neither * nor like https://example.org", o)
	}
	for _, p := range c.Proxies {
		_, err1 := netip.ParseAddr(p)
		_, err2 := netip.ParsePrefix(p)
		check(err1 == nil || err2 == nil, "proxy %q is neither an address nor a network", p)
	}
	if c.Traces != "" {
		u, err := url.Parse(c.Traces)
		check(err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https"), "traces %q is not an http address", c.Traces)
	}
	check(c.TrainDir == "" || c.StateDir != "", "train dir %s: trainings are jobs, which have no folder (state dir)", c.TrainDir)
	check(c.Trainer == nil || c.TrainDir != "", "there is no folder for training")
	check(c.Log != nil, "there is no logger")
	return errors.Join(errs...)
}

// Keys of at least 16 bytes cannot be guessed at any rate; longer than 256
// nobody has.
const minKey, maxKey = 16, 256
