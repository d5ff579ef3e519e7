package main

import (
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"resdet"
	"resdet/internal/det"
	"resdet/internal/track"
	"resdet/internal/video"
)

type videoOptions struct {
	model  modelFlags
	limits thresholdFlags

	out   []string
	json  bool
	show  bool
	http  string
	codec string
	mute  bool
	quiet bool

	every      int
	fps        float64
	start, end string
	roi        string
	batch      int
	track      bool
	newest     bool
	all        bool

	open video.Options
}

func newVideoCommand(s streams) *cobra.Command {
	o := videoOptions{open: video.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "video [--model FILE] SOURCE",
		Short: "Find and follow the objects of a video, a camera or a stream",
		Long: `Find the objects in each frame of SOURCE: a file, an http(s) or rtsp(s) address, a camera's number, a folder of numbered
pictures, or - for MJPEG or Y4M on standard input.

Files are processed whole and in order. Of a live source the newest frame is taken whenever the detector is ready, and the
others are counted as dropped. Objects with a score below 0.5 are not drawn unless --score says so. Without --out, --show and
--http the results go to stdout as JSON lines, one per frame.

Files other than MJPEG and Y4M, cameras, RTSP, windows and the writing of video files need OpenCV, which lives in the helper
program resdet-video (scripts/build builds it).`,
		Example: `  resdet video --out cars.mp4 --track road.mp4
  resdet video --json --start 10 --end 1:30 road.mp4 > found.jsonl
  resdet video --every 5 --track --http :8090 rtsp://camera/stream
  ffmpeg -i FILE -f yuv4mpegpipe - | resdet video -o frames/ -`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runVideo(cmd.Context(), s, o, args[0], cmd.Flags())
		},
	}
	f := cmd.Flags()
	o.model.precision = "auto"
	o.model.add(f, s)
	o.limits.add(f)
	f.StringArrayVarP(&o.out, "out", "o", nil, "file for the result, may be repeated: .mp4 or .avi (the video with its objects drawn), .jsonl, .txt (tracks as the MOT Challenge has them), or a folder for pictures")
	f.BoolVar(&o.json, "json", false, "JSON lines on stdout also with other outputs")
	f.BoolVar(&o.show, "show", false, "show a window; q or Escape ends")
	f.StringVar(&o.http, "http", "", "serve the pictures as MJPEG at this address (HOST:PORT)")
	f.StringVar(&o.codec, "codec", "", "of the file: avc1 or mp4v for .mp4, MJPG for .avi (default: the first)")
	f.BoolVar(&o.mute, "no-sound", false, "do not copy the source's sound")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no progress bar")

	f.IntVar(&o.every, "every", 1, "look at every N-th frame; with --track the others get what lies between, without it they are left out")
	f.Float64Var(&o.fps, "fps", 0, "most frames per second of the video (default: all)")
	f.StringVar(&o.start, "start", "", "begin at this time: seconds or [H:]M:S")
	f.StringVar(&o.end, "end", "", "end at this time: seconds or [H:]M:S")
	f.StringVar(&o.roi, "roi", "", "look only at this part of the frames: X0,Y0,X1,Y1 in pixels")
	f.IntVar(&o.model.shortSide, "short-side", 0, "scale frames to this short side for the network: less is faster and misses what is small (default: the model's)")
	f.IntVar(&o.batch, "batch", 1, "frames that go through the network at once")
	f.BoolVar(&o.track, "track", false, "follow objects from frame to frame and number them")
	f.BoolVar(&o.newest, "newest", false, "take the newest frame and drop the others, as is done for live sources")
	f.BoolVar(&o.all, "all", false, "process every frame, also of a live source")

	f.Float64Var(&o.open.Rate, "source-fps", 0, "frames per second of a source that does not say: pictures, MJPEG (default: 25)")
	f.DurationVar(&o.open.OpenTimeout, "open-timeout", o.open.OpenTimeout, "longest wait for the first frame")
	f.DurationVar(&o.open.ReadTimeout, "read-timeout", o.open.ReadTimeout, "longest wait for a further frame")
	f.DurationVar(&o.open.Reconnect, "reconnect", o.open.Reconnect, "how long a live source that broke off is tried again; 0: not")
	return cmd
}

// config checks the flags before anything is opened.
func (o *videoOptions) config() (video.Config, error) {
	cfg := video.DefaultConfig()
	cfg.Every, cfg.FPS, cfg.Batch = o.every, o.fps, o.batch
	var err error
	if cfg.Start, err = parseTime("--start", o.start); err != nil {
		return cfg, err
	}
	if cfg.End, err = parseTime("--end", o.end); err != nil {
		return cfg, err
	}
	o.open.Start = cfg.Start
	if o.roi != "" {
		var r image.Rectangle
		if n, err := fmt.Sscanf(o.roi, "%d,%d,%d,%d", &r.Min.X, &r.Min.Y, &r.Max.X, &r.Max.Y); n != 4 || err != nil || r.Empty() {
			return cfg, usagef("--roi %q is not X0,Y0,X1,Y1 with X0 < X1 and Y0 < Y1", o.roi)
		}
		cfg.ROI = r
	}
	switch {
	case o.newest && o.all:
		return cfg, usagef("--newest and --all contradict each other")
	case o.newest:
		cfg.Order = video.Newest
	case o.all:
		cfg.Order = video.All
	}
	if o.track {
		t := track.DefaultConfig()
		cfg.Track = &t
	}
	if o.model.shortSide < 0 {
		return cfg, usagef("--short-side %d is negative", o.model.shortSide)
	}
	for _, out := range o.out {
		if strings.EqualFold(filepath.Ext(out), ".txt") && !o.track {
			return cfg, usagef("--out %s is for tracks: it needs --track", out)
		}
	}
	if err := errors.Join(cfg.Validate(), o.open.Validate()); err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// parseTime reads seconds, M:S or H:M:S.
func parseTime(flag, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	parts := strings.Split(text, ":")
	total := 0.0
	for _, p := range parts {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil || !(v >= 0 && v < 1e6) || len(parts) > 3 {
			return 0, usagef("%s %q is not a time: seconds, M:S or H:M:S", flag, text)
		}
		total = 60*total + v
	}
	return time.Duration(total * float64(time.Second)), nil
}

func runVideo(ctx context.Context, s streams, o videoOptions, name string, flags *pflag.FlagSet) error {
	cfg, err := o.config()
	if err != nil {
		return err
	}
	o.open.Stdin = s.in
	bar := newVideoProgress(s.err, o.quiet)
	defer bar.stop()
	if isTerminal(s.out) && isTerminal(s.err) {
		s.out = bar // results go above the bar, which erases the line that it was on
	}
	cfg.Log = slog.New(slog.NewTextHandler(bar, &slog.HandlerOptions{ReplaceAttr: withoutTime}))

	// The source is opened while the model is read, for both may take a while.
	type opened struct {
		source video.Source
		err    error
	}
	opening := make(chan opened, 1)
	openCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() {
		source, err := video.Open(openCtx, name, o.open)
		opening <- opened{source, err}
	}()
	d, err := o.model.open()
	if err == nil {
		defer d.Close()
	}
	var settings resdet.Settings
	if err == nil {
		settings, err = o.limits.settings(flags, d)
	}
	if err != nil {
		giveUp()
	}
	got := <-opening
	if err = errors.Join(err, got.err); err != nil && got.source != nil {
		got.source.Close()
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}

	classes := videoClasses(d.Config().Classes)
	least := float32(video.LeastDrawn)
	if flags.Changed("score") {
		least = settings.Score
	}
	cfg.Draw = video.DrawObjects(classes, least)
	sinks, err := o.sinks(s, name, got.source.Info(), cfg, classes)
	if err != nil {
		got.source.Close()
		return err
	}
	p, err := video.New(got.source, modelDetector{d, settings}, sinks, cfg)
	if err != nil {
		return usageError{err}
	}
	bar.watch(p, cfg)
	err = p.Run(ctx)
	bar.stop()
	if !o.quiet {
		fmt.Fprintln(s.err, summary(p.Stats()))
	}
	return err
}

// withoutTime leaves what a terminal does not need out of log lines.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// modelDetector runs a model with the flags' settings.
type modelDetector struct {
	d        *resdet.Detector
	settings resdet.Settings
}

func (m modelDetector) Detect(ctx context.Context, images []image.Image) ([][]det.Detection, error) {
	results, err := m.d.DetectBatch(ctx, images, m.settings)
	if err != nil {
		return nil, err
	}
	found := make([][]det.Detection, len(results))
	for i, r := range results {
		found[i] = r.Detections
	}
	return found, nil
}

// videoClasses names a model's classes for the writers of package video.
func videoClasses(classes []resdet.Class) []video.Class {
	names := make([]video.Class, len(classes))
	for i, c := range classes {
		names[i] = video.Class{Name: c.Name, ID: c.ID}
	}
	return names
}

// sinks opens the outputs. When one fails those before it are closed.
func (o videoOptions) sinks(s streams, name string, info video.Info, cfg video.Config, classes []video.Class) (sinks []video.Sink, err error) {
	defer func() {
		if err != nil {
			for _, sink := range sinks {
				err = errors.Join(err, sink.Close())
			}
		}
	}()
	add := func(sink video.Sink, err error) error {
		if err == nil {
			sinks = append(sinks, sink)
		}
		return err
	}
	file := video.FileOptions{Codec: o.codec, Width: info.Width, Height: info.Height, FPS: cfg.OutputRate(info), Log: cfg.Log}
	if !o.mute {
		file.Sound = info.Sound
	}
	for _, out := range o.out {
		if sameFile(name, out) {
			return sinks, usageError{hintError{fmt.Errorf("--out %s is the source, which would be overwritten", out), "give the result a name of its own"}}
		}
		switch ext := strings.ToLower(filepath.Ext(out)); ext {
		case ".mp4", ".avi":
			err = add(video.NewFile(out, file))
		case ".jsonl", ".txt":
			var f *os.File
			if f, err = os.Create(out); err != nil {
				return sinks, err
			}
			if ext == ".txt" {
				err = add(video.NewMOT(f), nil)
			} else {
				err = add(video.NewJSONLines(f, f.Close, classes), nil)
			}
		case "":
			err = add(video.NewFolder(out))
		default:
			err = usagef("--out %s: it must end with .mp4, .avi, .jsonl or .txt, or be a folder", out)
		}
		if err != nil {
			return sinks, err
		}
	}
	if o.show {
		if err := add(video.NewWindow("resdet: "+name, "")); err != nil {
			return sinks, err
		}
	}
	if o.http != "" {
		if err := add(newHTTPSink(o.http, s.err)); err != nil {
			return sinks, err
		}
	}
	if o.json || len(sinks) == 0 {
		sinks = append(sinks, video.NewJSONLines(s.out, nil, classes))
	}
	return sinks, nil
}

// httpSink serves a broadcast on an address of its own.
type httpSink struct {
	*video.Broadcast
	server *http.Server
}

func newHTTPSink(addr string, errw io.Writer) (video.Sink, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := video.NewBroadcast()
	h := &httpSink{b, &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second}}
	go h.server.Serve(l) // ends with Close
	fmt.Fprintf(errw, "serving pictures at http://%s/\n", l.Addr())
	return h, nil
}

func (h *httpSink) Close() error {
	return errors.Join(h.Broadcast.Close(), h.server.Close())
}
