package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unsafe"

	"resdet/internal/nd"
)

// Tensor describes one array of a checkpoint.
type Tensor struct {
	Key   string
	Shape nd.Shape
	DType DType // in the file

	view view
}

// Checkpoint is an opened file of named arrays. Reading from it is safe for
// concurrent use; the file must stay as it is until Close.
type Checkpoint struct {
	Name     string            // of the file, as it was given; errors begin with it
	Format   string            // "pytorch zip", "pytorch legacy", "safetensors", "pickle", "caffemodel"
	Tensors  []Tensor          // in the file's order; not to be changed
	Metadata map[string]string // safetensors' own; of a pickle what it says in short words; may be nil

	size  int64
	r     io.ReaderAt
	data  string // all of the file, if it is in memory
	close func() error
	index map[string]int
}

// Open reads the description of the checkpoint at path; its elements stay in
// the file. The kind of file is told by its content, not its name.
func Open(path string) (*Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: not a regular file", path, ErrFormat)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("weights: %w", err)
	}
	c, err := OpenReader(path, f, info.Size())
	if err != nil {
		f.Close()
		return nil, err
	}
	c.close = f.Close
	return c, nil
}

// OpenReader is [Open] for size bytes of r. Errors call the file name.
func OpenReader(name string, r io.ReaderAt, size int64) (*Checkpoint, error) {
	return (&Checkpoint{Name: name, r: r, size: size}).opened()
}

// OpenString is [Open] for a file in memory, such as an embedded model; nothing
// is copied.
func OpenString(name, data string) (*Checkpoint, error) {
	return (&Checkpoint{Name: name, r: strings.NewReader(data), size: int64(len(data)), data: data}).opened()
}

func (c *Checkpoint) opened() (*Checkpoint, error) {
	if err := c.parse(); err != nil {
		return nil, c.fail(err)
	}
	return c, nil
}

// Close closes the file. It is idempotent.
func (c *Checkpoint) Close() error {
	if c.close == nil {
		return nil
	}
	f := c.close
	c.close = nil
	return f()
}

// Size returns the bytes of the file.
func (c *Checkpoint) Size() int64 { return c.size }

// Tensor returns the array under key, or nil.
func (c *Checkpoint) Tensor(key string) *Tensor {
	i, ok := c.index[key]
	if !ok {
		return nil
	}
	return &c.Tensors[i]
}

// Read returns the elements of the array under key in row-major order, in a
// slice of the caller's own.
func (c *Checkpoint) Read(key string) ([]float32, error) {
	t := c.Tensor(key)
	if t == nil {
		return nil, c.fail(fmt.Errorf("no tensor %q", key))
	}
	// Checked before the result is allocated, so that a damaged file costs nothing.
	if t.Shape.Len() > 0 {
		if err := t.view.data.verify(c.r); err != nil {
			return nil, c.fail(fmt.Errorf("tensor %q: %w", key, err))
		}
	}
	dst := make([]float32, t.Shape.Len())
	if err := t.view.read(c.r, dst); err != nil {
		return nil, c.fail(fmt.Errorf("tensor %q: %w", key, err))
	}
	return dst, nil
}

// Param returns the elements of the array under key, in a slice of the
// caller's own, if it has that shape: a Checkpoint is a device.Params.
func (c *Checkpoint) Param(key string, shape nd.Shape) ([]float32, error) {
	if err := c.has(key, shape); err != nil {
		return nil, err
	}
	return c.Read(key)
}

// ParamInto is Param into dst: a Checkpoint is a device.ParamsInto.
func (c *Checkpoint) ParamInto(dst []float32, key string, shape nd.Shape) error {
	if err := c.has(key, shape); err != nil {
		return err
	}
	if len(dst) != shape.Len() {
		return c.fail(fmt.Errorf("parameter %q of shape %v does not fit %d elements", key, shape, len(dst)))
	}
	if err := c.Tensor(key).view.read(c.r, dst); err != nil {
		return c.fail(fmt.Errorf("parameter %q: %w", key, err))
	}
	return nil
}

// ParamHalf returns the bytes of the array under key if it is stored as
// half-precision numbers in row-major order: a Checkpoint is a
// device.ParamsHalf. A file in memory shows its own.
func (c *Checkpoint) ParamHalf(key string, shape nd.Shape, room func(bytes int) ([]byte, error)) ([]byte, error) {
	if err := c.has(key, shape); err != nil {
		return nil, err
	}
	t := c.Tensor(key)
	at := t.view.data
	if t.DType != F16 || at.big || at.where.coding != asIs || at.inline != "" || !t.view.contiguous() || shape.Len() == 0 {
		return nil, nil
	}
	if err := at.verify(c.r); err != nil {
		return nil, c.fail(fmt.Errorf("parameter %q: %w", key, err))
	}
	first, size := at.where.off+2*t.view.offset, 2*shape.Len()
	if c.data != "" {
		return unsafe.Slice(unsafe.StringData(c.data[first:]), size), nil
	}
	dst, err := room(size)
	if err != nil {
		return nil, err
	}
	if err := readAt(c.r, dst, first); err != nil {
		return nil, c.fail(fmt.Errorf("parameter %q: %w", key, err))
	}
	return dst, nil
}

func (c *Checkpoint) has(key string, shape nd.Shape) error {
	t := c.Tensor(key)
	switch {
	case t == nil:
		return c.fail(fmt.Errorf("parameter %q is missing", key))
	case !t.Shape.Equal(shape):
		return c.fail(fmt.Errorf("parameter %q has shape %v, the network wants %v", key, t.Shape, shape))
	}
	return nil
}

// fail prefixes err with the file's name. A file that ends too early is damaged.
func (c *Checkpoint) fail(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrDamaged) {
		err = damaged("it ends too early (%v)", err)
	}
	return fmt.Errorf("weights: %s: %w", c.Name, err)
}

// tensorBytes is what one entry of Tensors takes.
const tensorBytes = 112

// add appends an array, once its view is known to lie within its storage.
func (c *Checkpoint) add(mem *budget, key string, v view) error {
	if _, err := v.extent(); err != nil {
		return fmt.Errorf("tensor %q: %w", key, err)
	}
	if len(c.Tensors) == cap(c.Tensors) {
		n := max(16, 2*cap(c.Tensors))
		if err := mem.take(int64(n) * tensorBytes); err != nil {
			return err
		}
		c.Tensors = append(make([]Tensor, 0, n), c.Tensors...)
	}
	c.Tensors = append(c.Tensors, Tensor{Key: key, Shape: v.shape, DType: v.data.dtype, view: v})
	return nil
}

// mapBytes is what one entry of a map from strings to ints takes at most, with
// the smaller tables that it grew out of.
const mapBytes = 96

// parse tells the kind of file by its first bytes and reads its description.
func (c *Checkpoint) parse() error {
	head := make([]byte, min(c.size, 512))
	if err := readAt(c.r, head, 0); err != nil {
		return err
	}
	mem := newBudget(c.size)
	var err error
	switch {
	case bytes.HasPrefix(head, []byte("PK")):
		c.Format = "pytorch zip"
		err = c.parseZip(mem)
	case len(head) > 8 && head[8] == '{':
		c.Format = "safetensors"
		err = c.parseSafetensors(mem)
	case bytes.Contains(head[:min(len(head), 32)], []byte(legacyMagic)):
		c.Format = "pytorch legacy"
		err = c.parseLegacy(mem)
	case len(head) > 1 && head[0] == opProto && head[1] >= 2 && head[1] <= 5:
		c.Format = "pickle"
		err = c.parsePickle(mem)
	case looksLikeNet(head):
		c.Format = "caffemodel"
		err = c.parseNet(mem)
	default:
		return fmt.Errorf("%w: %s", ErrFormat, guess(head))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c.Format, err)
	}
	if err := mem.take(int64(len(c.Tensors)) * mapBytes); err != nil {
		return err
	}
	c.index = make(map[string]int, len(c.Tensors))
	for i, t := range c.Tensors {
		c.index[t.Key] = i
	}
	return nil
}

// guess says what a file that is no checkpoint may be.
func guess(head []byte) string {
	text := strings.ToLower(strings.TrimSpace(string(head)))
	switch {
	case len(head) == 0:
		return "the file is empty"
	case len(head) < 9:
		return fmt.Sprintf("%d bytes are too few", len(head))
	case strings.HasPrefix(text, "version https://git-lfs"):
		return "it is a Git LFS pointer; fetch the file itself with git lfs pull"
	case strings.HasPrefix(text, "<"):
		return "it is a web page; the download did not give the file"
	case bytes.HasPrefix(head, []byte("\x89HDF")):
		return "HDF5 (Keras) is not read"
	}
	return "it is neither a PyTorch checkpoint (zip or legacy), safetensors, a pickle of arrays nor a Caffe model"
}
