package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/web"
)

// serveOptions are what the flags of serve set.
type serveOptions struct {
	models    []string
	run       modelFlags
	web       web.Config
	keyFile   string
	logFormat string
	logLevel  string
	config    string
	check     bool
}

func (o *serveOptions) add(f *pflag.FlagSet, s streams) {
	f.StringArrayVarP(&o.models, "model", "m", nil, "model file; may be repeated (default: the one built in)")
	o.run.precision = "auto"
	o.run.addRun(f, s)
	o.run.addWorkers(f)
	c := &o.web
	f.StringVar(&c.Addr, "addr", c.Addr, "HOST:PORT to listen on")
	f.IntVar(&c.Queue, "queue", c.Queue, "pictures that may wait for a model; more are refused with 429")
	f.IntVar(&c.Turns, "turns", c.Turns, "models that compute at a time, each with all its threads and workers")
	f.IntVar(&c.Batch, "batch", c.Batch, "waiting pictures of one shape that a model gets at once")
	f.DurationVar(&c.BatchWait, "batch-wait", c.BatchWait, "how long a picture waits for others, with --batch above 1")
	f.IntVar(&c.Decoders, "decoders", c.Decoders, "pictures that are decoded at a time")
	f.Var((*byteSize)(&c.Memory), "memory", "most of all bodies and pictures in the server; what does not fit is refused with 429")
	f.Var((*byteSize)(&c.MaxBody), "max-body", "most of a request with pictures")
	f.Int64Var(&c.MaxPixels, "max-pixels", c.MaxPixels, "most pixels of a picture")
	f.IntVar(&c.MaxImages, "max-images", c.MaxImages, "most pictures of a request")
	f.IntVar(&c.MaxConns, "max-conns", c.MaxConns, "connections that are open at a time")
	f.DurationVar(&c.HeaderTimeout, "header-timeout", c.HeaderTimeout, "for a request's headers, and between the bytes of its body")
	f.DurationVar(&c.IdleTimeout, "idle-timeout", c.IdleTimeout, "for a connection's next request")
	f.DurationVar(&c.WriteTimeout, "write-timeout", c.WriteTimeout, "for a client to take an answer")
	f.Var((*byteSize)(&c.MinRate), "min-rate", "least of a body that must come in a second")
	f.DurationVar(&c.MaxWait, "max-wait", c.MaxWait, "longest time from a request's body to its answer")
	f.DurationVar(&c.Drain, "drain", c.Drain, "time for requests under way when the server stops")
	f.StringVar(&o.keyFile, "key-file", "", "file of API keys, one a line; # begins a comment (default: everybody may)")
	f.StringSliceVar(&c.Keys, "keys", nil, "API keys")
	if err := f.MarkHidden("keys"); err != nil {
		panic(err) // it is defined above
	}
	f.StringArrayVar(&c.Origins, "origin", nil, "page that may use the API from another host, https://example.org or *; may be repeated")
	f.Float64Var(&c.Rate, "rate", c.Rate, "requests a second that each key and each address may make (default: no limit)")
	f.IntVar(&c.Burst, "burst", c.Burst, "requests at once, with --rate")
	f.StringArrayVar(&c.Proxies, "proxy", nil, "address or network of a proxy whose X-Forwarded-For is believed; may be repeated")
	f.StringVar(&c.StateDir, "state-dir", defaultStateDir(), "folder in which jobs live through a restart; empty: no jobs")
	f.IntVar(&c.MaxJobs, "max-jobs", c.MaxJobs, "jobs that are kept, finished ones included")
	f.Var((*byteSize)(&c.MaxUpload), "max-upload", "most of a job's input")
	f.Var((*byteSize)(&c.MaxJobBytes), "max-job-bytes", "most that all jobs may take on disk")
	f.DurationVar(&c.JobAge, "job-age", c.JobAge, "how long a finished job is kept")
	f.StringVar(&c.TrainDir, "train-dir", "", "folder in which jobs train models, which are kept there (default: no trainings)")
	f.IntVar(&c.MaxTrained, "max-trained", c.MaxTrained, "trained models that are kept, those in training included")
	f.Var((*byteSize)(&c.MaxTrainBytes), "max-train-bytes", "most that trainings and their models may take on disk")
	f.IntVar(&c.MaxLive, "max-live", c.MaxLive, "live connections that may be open at a time")
	f.StringArrayVar(&c.AllowHosts, "allow-host", nil, "host from which jobs may fetch videos; may be repeated (default: nothing is fetched)")
	f.StringVar(&c.Traces, "traces", "", "OTLP collector for traces, http://host:4318 (default: none)")
	f.StringVar(&o.logFormat, "log-format", "text", "of the log on stderr: text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.config, "config", "", "YAML file with these flags' names and values")
	f.BoolVar(&o.check, "check-config", false, "print the settings and what is wrong with them, and end")
}

// defaultStateDir is the user's folder for what programs keep, by the XDG base
// directory specification; empty where there is no home.
func defaultStateDir() string {
	state := os.Getenv("XDG_STATE_HOME")
	if home, err := os.UserHomeDir(); state == "" && err == nil {
		if _, err := os.Stat(home); err == nil { // service users have none
			state = filepath.Join(home, ".local", "state")
		}
	}
	if !filepath.IsAbs(state) {
		return ""
	}
	return filepath.Join(state, "resdet")
}

// settle completes the options with what file and environment say and looks
// whether they can work.
func (o *serveOptions) settle(f *pflag.FlagSet) (from map[string]string, err error) {
	if f.Changed("keys") {
		return nil, usagef("--keys would stand in the list of processes: use --key-file, %s or the file", environment("keys"))
	}
	if o.config == "" {
		o.config = os.Getenv(environment("config"))
	}
	from, err = settle(f, os.Environ(), o.config)
	if err != nil {
		return nil, usageError{err}
	}
	log, err := o.logger(io.Discard)
	if err != nil {
		return nil, err
	}
	o.web.Log = log
	if o.keyFile != "" {
		keys, err := readKeys(o.keyFile)
		if err != nil {
			return nil, usageError{err}
		}
		o.web.Keys = append(o.web.Keys, keys...)
	}
	if o.web.TrainDir != "" {
		if o.web.TrainDir, err = filepath.Abs(o.web.TrainDir); err != nil {
			return nil, err
		}
	}
	if err := o.web.Validate(); err != nil {
		return nil, usageError{err}
	}
	return from, nil
}

// readKeys reads a file of keys. A file without any would let everybody in.
func readKeys(name string) (keys []string, err error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: there is no key in it", name)
	}
	return keys, nil
}

// print writes the settings as a file of them, each with where it is from,
// after the models have been opened.
func (o *serveOptions) print(w io.Writer, f *pflag.FlagSet, from map[string]string) error {
	models, err := (&serveTrainer{o: *o}).open()
	if err != nil {
		return err
	}
	closeModels(models)
	f.VisitAll(func(flag *pflag.Flag) {
		value := flag.Value.String()
		if slices.Contains(unset, flag.Name) {
			return
		}
		if flag.Name == "keys" {
			value = fmt.Sprintf("%d of them", len(o.web.Keys))
		}
		origin := from[flag.Name]
		if origin == "" {
			origin = "default"
		}
		fmt.Fprintf(w, "%s: %s  # %s\n", fileKey(flag.Name), value, origin)
	})
	for _, name := range strays(f, os.Environ()) {
		fmt.Fprintf(w, "# %s is no setting\n", name)
	}
	return nil
}

func newServeCommand(s streams) *cobra.Command {
	o := serveOptions{web: web.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "serve [--addr HOST:PORT] [--model FILE…]",
		Short: "Serve detectors over HTTP, with a page that shows what they see",
		Long: `Serve detectors over HTTP: a REST API under /v1 (described at /docs), metrics for Prometheus, and a page at /.

Models are named by their files; the first is the default one. All are kept open, each in memory of its own.
SIGHUP opens their files again and drops no request. SIGTERM and SIGINT let requests under way end.

Every flag can stand in a YAML file (--config; max_body: 64MiB) and in the environment (RESDET_SERVE_MAX_BODY=64MiB,
lists with commas): flags win over the environment, the environment over the file.`,
		Example: `  resdet serve
  resdet serve --addr :8080 --model vgg16.safetensors --model resnet101.safetensors
  curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' 'localhost:8080/v1/detect?score=0.5'`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := o.settle(cmd.Flags())
			if err != nil {
				return err
			}
			if o.check {
				return o.print(s.out, cmd.Flags(), from)
			}
			return runServe(cmd.Context(), s, o)
		},
	}
	o.add(cmd.Flags(), s)
	return cmd
}

func runServe(ctx context.Context, s streams, o serveOptions) error {
	log, err := o.logger(s.err)
	if err != nil {
		return err
	}
	o.web.Log = log
	cfg := o.web
	cfg.Turns *= max(1, o.run.workers)
	models := &serveTrainer{o: o}
	if cfg.TrainDir != "" {
		cfg.Trainer = models
	}
	server, err := web.New(cfg)
	if err != nil {
		return usageError{err}
	}
	models.server = server
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	var loading sync.WaitGroup
	defer loading.Wait()
	loading.Go(func() {
		defer cancel(nil)
		if err := models.load(); err != nil {
			cancel(err) // nothing to serve
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				if err := models.load(); err != nil {
					log.Error("the models stay as they were", "error", err)
				}
			}
		}
	})
	err = server.Run(ctx)
	cancel(nil)
	var signalled signalError
	if cause := context.Cause(ctx); err == nil && !errors.As(cause, &signalled) && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return err
}

// logger writes to w as the flags say.
func (o serveOptions) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return nil, usagef("--log-level %q is none of debug, info, warn, error", o.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	switch o.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, usagef("--log-format %q is neither text nor json", o.logFormat)
}

// openServed opens a model's file.
func (o serveOptions) openServed(f servedFile) (web.Model, error) {
	run := o.run
	if f.trained && run.precision == string(resdet.Int8) {
		run.precision = string(resdet.Auto) // for int8 a model is quantised first
	}
	d, err := run.openPath(f.path)
	if err != nil {
		return web.Model{}, err
	}
	m := servedModel(f.path, d)
	m.Workers = o.run.workers
	return m, nil
}

func closeModels(models []web.Model) {
	for _, m := range models {
		m.Close() // nothing was done with it that could be lost
	}
}

// builtinName is how requests ask for the model that is built in.
const builtinName = "voc-resnet50-fpn"

// servedName is how a model is asked for: by its file's name.
func servedName(path string) string {
	if path == "" {
		return builtinName
	}
	return strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
}

// servedModel is a detector as the server wants it, named by its file.
func servedModel(path string, d *resdet.Detector) web.Model {
	cfg := d.Config()
	info := web.Info{
		Arch: cfg.Arch, Transform: cfg.Transform, Precision: string(d.Precision()),
		Source: cfg.Provenance.Source, License: cfg.Provenance.License, Data: cfg.Provenance.Data, Scores: cfg.Provenance.Scores,
	}
	for _, c := range cfg.Classes {
		info.Classes = append(info.Classes, web.Class{ID: c.ID, Name: c.Name})
	}
	return web.Model{Name: servedName(path), Info: info, Settings: d.Settings(), Detector: &servedDetector{d: d}, Close: d.Close}
}

// servedDetector tells the server where the time went.
type servedDetector struct{ d *resdet.Detector }

func (s *servedDetector) Detect(ctx context.Context, images []image.Image, settings web.Settings) ([][]web.Detection, web.Timing, error) {
	results, p, err := s.d.DetectProfiled(ctx, images, settings)
	if err != nil {
		return nil, web.Timing{}, fmt.Errorf("detecting: %w", err)
	}
	lists := make([][]web.Detection, len(results))
	for i, r := range results {
		lists[i] = r.Detections
	}
	return lists, web.Timing{
		Compile: p.Compile, Transform: p.Transform, Stage1: p.Stage1, Proposals: p.Proposals, Stage2: p.Stage2, Post: p.Post, Total: p.Total,
	}, nil
}
