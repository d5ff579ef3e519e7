package jobs

import (
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"image"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"resdet/coco"
	"resdet/internal/transform"
	"resdet/internal/video"
)

// picture is one of an archive's, decoded, or why it could not be.
type picture struct {
	name string
	img  image.Image
	err  error
	took time.Duration
}

// pictures works on an archive of them: the next one is decoded while the
// network looks at this one.
func (r *run) pictures(ctx context.Context, input string, f format) (outcome, error) {
	if r.spec.Every > 1 || r.spec.Track {
		return outcome{}, faultf(BadRequest, "every and track are for videos; this is an archive of pictures")
	}
	a, file, err := openArchive(ctx, input, f, r.q.cfg.Archive, isPicture)
	if err != nil {
		return outcome{}, err
	}
	defer file.Close()
	w, err := r.newPictureWriter()
	if err != nil {
		return outcome{}, err
	}
	defer w.abandon()
	p := Progress{Total: len(a.files), Left: -1}
	r.tell(p)
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	decoded := make(chan picture)
	group.Go(func() error {
		defer close(decoded)
		return r.safely(func() error {
			return a.each(ctx, func(name string, from io.Reader) error {
				start := time.Now()
				img, err := transform.Decode(from, r.q.cfg.Pictures)
				select {
				case decoded <- picture{name, img, err, time.Since(start)}:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		})
	})
	group.Go(func() error {
		var firstBad error
		for next := range decoded {
			if next.err != nil {
				p.Failed++
				if firstBad == nil {
					firstBad = faultf(BadInput, "%s: %w", next.name, next.err)
				}
			}
			if err := r.look(ctx, next, w); err != nil {
				return err
			}
			p.Done++
			p.Fraction = float64(p.Done) / float64(p.Total)
			p.Left = time.Duration(float64(time.Since(begin)) / float64(p.Done) * float64(p.Total-p.Done))
			r.tell(p)
		}
		if p.Failed == p.Total {
			return firstBad
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return outcome{}, err
	}
	if err := w.finish(); err != nil {
		return outcome{}, err
	}
	return outcome{annotated: w.annotated, progress: p}, nil
}

// look finds what is in a picture and writes it.
func (r *run) look(ctx context.Context, p picture, w *pictureWriter) error {
	line := coco.Line{Image: p.name}
	if p.err != nil {
		line.Error = p.err.Error()
		return w.write(line)
	}
	start := time.Now()
	found, err := r.detect(ctx, p.img)
	if err != nil {
		return err
	}
	size := p.img.Bounds()
	line.Width, line.Height = size.Dx(), size.Dy()
	line.MS = map[string]float64{"decode": milliseconds(p.took), "detect": milliseconds(time.Since(start))}
	for _, d := range found {
		if d.Class < 0 || d.Class >= len(r.classes) || !d.Box.Finite() {
			continue
		}
		b, c := d.Box, r.classes[d.Class]
		line.Detections = append(line.Detections, coco.Result{
			Class: c.Name, ClassID: c.ID, Score: float64(d.Score),
			Box: coco.BoxFromCorners(float64(b.X0), float64(b.Y0), float64(b.X1), float64(b.Y1)),
		})
	}
	if err := w.write(line); err != nil {
		return err
	}
	return w.draw(p, found)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// leastDrawn is the least score of what is drawn.
func (s Settings) leastDrawn() float32 {
	if s.Score != nil {
		return *s.Score
	}
	return video.LeastDrawn
}

// pictureWriter writes lines of JSON, and pictures with their objects into a
// zip archive if they are wanted.
type pictureWriter struct {
	results   *resultFile
	annotated string
	drawn     *os.File
	buffer    *bufio.Writer
	zip       *zip.Writer
	names     []string
	least     float32
}

func (r *run) newPictureWriter() (*pictureWriter, error) {
	results, err := r.newResultFile()
	if err != nil {
		return nil, err
	}
	w := &pictureWriter{results: results, least: r.spec.Settings.leastDrawn()}
	if !r.spec.Annotate {
		return w, nil
	}
	for _, c := range r.classes {
		w.names = append(w.names, c.Name)
	}
	w.annotated = annotatedImages
	if w.drawn, err = os.Create(filepath.Join(r.work, w.annotated)); err != nil {
		results.abandon()
		return nil, diskOr(err)
	}
	w.buffer = bufio.NewWriterSize(r.meter.writer(w.drawn), 1<<18)
	w.zip = zip.NewWriter(w.buffer)
	return w, nil
}

func (w *pictureWriter) write(l coco.Line) error {
	text, err := coco.AppendLine(nil, l)
	if err != nil {
		return faultf(Internal, "%w", err)
	}
	_, err = w.results.Write(text)
	return err
}

func (w *pictureWriter) draw(p picture, found []Detection) error {
	if w.zip == nil {
		return nil
	}
	var shown []Detection
	for _, d := range found {
		if d.Score >= w.least {
			shown = append(shown, d)
		}
	}
	// Stored: they are compressed already.
	entry, err := w.zip.CreateHeader(&zip.FileHeader{Name: p.name, Method: zip.Store})
	if err == nil {
		err = transform.Encode(entry, p.name, transform.Draw(p.img, shown, w.names))
	}
	return faultOf(err)
}

func (w *pictureWriter) finish() error {
	if w.zip != nil {
		if err := errors.Join(w.zip.Close(), w.buffer.Flush(), w.drawn.Close()); err != nil {
			return faultOf(err)
		}
	}
	return w.results.finish()
}

// abandon closes the files; after finish it does nothing.
func (w *pictureWriter) abandon() {
	w.results.abandon()
	if w.drawn != nil {
		w.drawn.Close()
	}
}

// faultOf leaves faults as they are and takes any other error of writing for one
// of the disk.
func faultOf(err error) error {
	var f *Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return diskOr(err)
}

// resultFile is the growing file of JSON lines.
type resultFile struct {
	*bufio.Writer
	f *os.File
}

func (r *run) newResultFile() (*resultFile, error) {
	f, err := os.Create(filepath.Join(r.work, resultsFile))
	if err != nil {
		return nil, diskOr(err)
	}
	return &resultFile{bufio.NewWriterSize(r.meter.writer(f), 1<<16), f}, nil
}

func (r *resultFile) finish() error {
	return faultOf(errors.Join(r.Flush(), r.f.Close()))
}

func (r *resultFile) abandon() { r.f.Close() }
