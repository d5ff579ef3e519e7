package jobs

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"resdet/internal/track"
	"resdet/internal/video"
)

// videoOptions say how videos are opened.
func (q *Queue) videoOptions() video.Options {
	o := q.cfg.Video
	o.Limits = q.cfg.Pictures
	return o
}

// film works on a video: a file, or a stream for as long as it may be followed.
func (r *run) film(ctx context.Context, name string, o video.Options) (outcome, error) {
	source, err := video.Open(ctx, name, o)
	if isStream := strings.Contains(name, "://"); isStream && err != nil && !errors.Is(err, video.ErrNoHelper) {
		return outcome{}, faultf(Unreachable, "%w", err)
	}
	if err != nil {
		return outcome{}, openFault(err)
	}
	info := source.Info()
	cfg := video.DefaultConfig()
	cfg.Every, cfg.Log = r.spec.Every, r.q.cfg.Log.With("job", r.job.ID)
	cfg.Draw = video.DrawObjects(r.classes, r.spec.Settings.leastDrawn())
	if r.spec.Track {
		t := track.DefaultConfig()
		cfg.Track = &t
	}
	if info.Live {
		cfg.End = r.q.cfg.LiveTime
	}
	results, err := r.newResultFile()
	if err != nil {
		source.Close()
		return outcome{}, err
	}
	defer results.abandon()
	watched := video.NewBroadcast()
	shown := &reporter{run: r, cfg: cfg, info: info}
	sinks := []video.Sink{video.NewJSONLines(results, nil, r.classes), watched, shown}
	var out outcome
	if r.spec.Annotate {
		out.annotated = annotatedVideo
		shown.file = filepath.Join(r.work, out.annotated)
		file, err := video.NewFile(shown.file, video.FileOptions{
			Width: info.Width, Height: info.Height, FPS: cfg.OutputRate(info), Helper: o.Helper, Abandon: ctx.Done(), Log: cfg.Log,
		})
		if err != nil {
			source.Close()
			return outcome{}, openFault(err)
		}
		shown.drawn = &closing{Sink: file}
		sinks = append(sinks, shown.drawn)
	}
	p, err := video.New(source, &frames{r}, sinks, cfg)
	if err != nil {
		return outcome{}, faultf(BadRequest, "%w", err)
	}
	shown.pipeline = p
	r.watch(watched)
	err = p.Run(ctx)
	r.watch(nil)
	if ctx.Err() != nil {
		return outcome{}, context.Cause(ctx)
	}
	stats := p.Stats()
	if panicked := (*video.PanicError)(nil); errors.As(err, &panicked) {
		cfg.Log.Error("a job panicked", "panic", fmt.Sprint(panicked.Value), "stack", string(panicked.Stack))
	}
	if err = verdict(err, stats, shown.drawn); err != nil {
		return outcome{}, err
	}
	if err := results.finish(); err != nil {
		return outcome{}, err
	}
	n := int(stats.Done)
	out.progress = Progress{Done: n, Failed: int(stats.Damaged), Total: n, Fraction: 1}
	return out, nil
}

// verdict says whether a run's results are the video's. Frames that could not
// be decoded are left out and counted; a stream may end at any time; a file
// that is cut off is not what it says it is.
func verdict(err error, stats video.Stats, drawn *closing) error {
	if drawn != nil && drawn.err != nil {
		return faultOf(drawn.err)
	}
	var fault *Fault
	var damaged *video.DamagedError
	var panicked *video.PanicError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &panicked):
		return faultf(Internal, "jobs: %w", err)
	case errors.As(err, &fault):
		return err
	case diskFault(err) != err:
		return diskFault(err)
	case errors.As(err, &damaged) && stats.Done > 0:
		return nil
	case stats.Source.Live && stats.Done > 0:
		return nil
	case stats.Source.Live:
		return faultf(Unreachable, "%w", err)
	}
	return faultf(BadInput, "%w", err)
}

// openFault is why a video could not be opened, or its copy created.
func openFault(err error) error {
	var fault *Fault
	var hint *video.HintError
	switch {
	case errors.As(err, &fault):
		return err
	case errors.Is(err, video.ErrNoHelper):
		return faultf(Unsupported, "this server has no OpenCV: it reads archives of pictures, MJPEG and Y4M only, and draws no videos (%w)", video.ErrNoHelper)
	case errors.As(err, &hint):
		return faultf(BadInput, "%w; %s", err, hint.Text)
	}
	if f := diskFault(err); f != err {
		return f
	}
	return faultf(BadInput, "%w", err)
}

// watch shows the run's pictures to those who ask for them; nil: not any more.
func (r *run) watch(b *video.Broadcast) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	r.e.stream = b
	r.e.notify()
}

// frames finds the objects of a video's frames.
type frames struct{ r *run }

func (f *frames) Detect(ctx context.Context, images []image.Image) ([][]Detection, error) {
	found := make([][]Detection, len(images))
	for i, m := range images {
		var err error
		if found[i], err = f.r.detect(ctx, m); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// closing remembers how closing a sink went.
type closing struct {
	video.Sink
	err error
}

func (c *closing) Close() error {
	if err := c.Sink.Close(); c.err == nil {
		c.err = err
	}
	return nil
}

// reporter is a sink that tells how far the run is and accounts for the file
// that the helper writes.
type reporter struct {
	run      *run
	cfg      video.Config
	info     video.Info
	pipeline *video.Pipeline
	drawn    *closing
	file     string
	size     int64 // of file, when it was looked at
	looked   time.Time
}

func (r *reporter) Draws() bool { return false }

func (r *reporter) Close() error { return nil }

func (r *reporter) Write(context.Context, *video.Result) error {
	if time.Since(r.looked) < tellEvery {
		return nil
	}
	r.looked = time.Now()
	stats := r.pipeline.Stats()
	p := Progress{Done: int(stats.Done) + 1, Failed: int(stats.Damaged), Total: r.total(), Fraction: -1, Left: -1}
	if length := r.cfg.Length(r.info); length > 0 {
		p.Fraction = min(1, math.Max(0, stats.Position.Seconds()/length.Seconds()))
		if left, ok := stats.Left(0, length); ok {
			p.Left = left
		}
	}
	r.run.tell(p)
	if r.file == "" {
		return nil
	}
	info, err := os.Stat(r.file)
	if err != nil || info.Size() <= r.size {
		return nil
	}
	grown := info.Size() - r.size
	r.size = info.Size()
	return r.run.meter.grow(grown)
}

// total is how many frames there will be in the results; 0: unknown.
func (r *reporter) total() int {
	if r.cfg.Track != nil {
		return r.info.Frames
	}
	return (r.info.Frames + r.cfg.Every - 1) / r.cfg.Every
}
