package weights

import (
	"math"
	"strings"

	"resdet/internal/nd"
)

// torchPickle reads the pickles of PyTorch's two containers: it knows the
// globals that tensors are made of, and collects the storages that these name.
type torchPickle struct {
	storages map[string]*storage
	big      bool // elements are big-endian
}

// storageType stands for a class such as torch.FloatStorage; of type 0 is
// torch.UntypedStorage, bytes whose element type the tensor names.
type storageType DType

// elementType stands for a value such as torch.float32.
type elementType DType

// globals is the whole list of what a pickled checkpoint may name. What is not
// about tensors stands on it because training checkpoints carry it beside the
// weights; it becomes an opaque value or a plain container.
var globals = map[string]any{
	"torch._utils._rebuild_tensor":               callable(rebuildTensor),
	"torch._utils._rebuild_tensor_v2":            callable(rebuildTensor),
	"torch._utils._rebuild_tensor_v3":            callable(rebuildTensor),
	"torch._utils._rebuild_parameter":            callable(rebuildParameter),
	"torch._utils._rebuild_parameter_with_state": callable(rebuildParameter),
	"torch._tensor._rebuild_from_type_v2":        callable(rebuildFromType),
	"torch.nn.parameter.Parameter":               opaque{},
	"torch.Tensor":                               opaque{},

	"torch.storage.UntypedStorage": storageType(0),
	"torch.FloatStorage":           storageType(F32),
	"torch.HalfStorage":            storageType(F16),
	"torch.BFloat16Storage":        storageType(BF16),
	"torch.DoubleStorage":          storageType(F64),
	"torch.LongStorage":            storageType(I64),
	"torch.IntStorage":             storageType(I32),
	"torch.ShortStorage":           storageType(I16),
	"torch.CharStorage":            storageType(I8),
	"torch.ByteStorage":            storageType(U8),
	"torch.BoolStorage":            storageType(Bool),

	"torch.float32": elementType(F32), "torch.float": elementType(F32),
	"torch.float16": elementType(F16), "torch.half": elementType(F16),
	"torch.bfloat16": elementType(BF16),
	"torch.float64":  elementType(F64), "torch.double": elementType(F64),
	"torch.int64": elementType(I64), "torch.int32": elementType(I32),
	"torch.int16": elementType(I16), "torch.int8": elementType(I8),
	"torch.uint64": elementType(U64), "torch.uint32": elementType(U32),
	"torch.uint16": elementType(U16), "torch.uint8": elementType(U8),
	"torch.bool": elementType(Bool),

	"torch.Size":              callable(newTuple),
	"torch.device":            callable(newOpaque),
	"collections.OrderedDict": callable(newDict),
	"collections.defaultdict": callable(newDict),
	"collections.Counter":     callable(newDict),
	"argparse.Namespace":      callable(newOpaque),
	"__builtin__.set":         callable(newOpaque),
	"builtins.set":            callable(newOpaque),

	// numpy's arrays, and its scalars: the best score so far, a seed.
	"numpy.ndarray":                       opaque{},
	"numpy.dtype":                         callable(newElements),
	"numpy.core.multiarray._reconstruct":  callable(newArray),
	"numpy._core.multiarray._reconstruct": callable(newArray),
	"numpy.core.numeric._frombuffer":      callable(newFromBuffer),
	"numpy._core.numeric._frombuffer":     callable(newFromBuffer),
	"numpy.core.multiarray.scalar":        callable(newOpaque),
	"numpy._core.multiarray.scalar":       callable(newOpaque),
	"_codecs.encode":                      callable(encodeLatin1),
}

// lookup finds a global on the list. CUDA's storages are the CPU's.
func lookup(module, name string) (any, error) {
	if module == "torch.cuda" && strings.HasSuffix(name, "Storage") {
		module = "torch"
	}
	if v, ok := globals[module+"."+name]; ok {
		return v, nil
	}
	return nil, &GlobalError{module, name}
}

func newOpaque(*machine, tuple) (any, error)      { return opaque{}, nil }
func newDict(m *machine, args tuple) (any, error) { return m.newDict() }

func newTuple(_ *machine, args tuple) (any, error) {
	if len(args) == 1 {
		if t, ok := args[0].(tuple); ok {
			return t, nil
		}
	}
	return nil, damaged("torch.Size of something else than a tuple")
}

// part is what a persistent id stands for: a storage, from an element on.
type part struct {
	data   *storage
	offset int64
}

// persistent finds the storage that ("storage", type, key, location,
// elements[, view]) names.
func (p *torchPickle) persistent(m *machine, id any) (any, error) {
	t, ok := id.(tuple)
	if !ok || len(t) < 5 || t[0] != any("storage") {
		return nil, errNoStorage
	}
	typ, ok1 := t[1].(storageType)
	key, ok2 := t[2].(string)
	n, ok3 := t[4].(int64)
	if !ok1 || !ok2 || !ok3 || n < 0 || n > math.MaxInt64/8 {
		return nil, errNoStorage
	}
	s := p.storages[key]
	if s == nil {
		if err := m.mem.take(160 + 96); err != nil { // the struct, and its place in the map
			return nil, err
		}
		s = &storage{key: key, dtype: DType(typ), elems: n, big: p.big}
		p.storages[key] = s
	} else if s.dtype != DType(typ) && typ != 0 || s.elems != n && typ != 0 {
		return nil, damaged("storage %q is named with two types or sizes", key)
	}
	if err := m.mem.take(16); err != nil {
		return nil, err
	}
	if len(t) < 6 || t[5] == nil {
		return &part{s, 0}, nil
	}
	view, ok := t[5].(tuple) // (key, offset, elements): how files before 2018 share storages
	if !ok || len(view) != 3 {
		return nil, errNoStorage
	}
	off, ok := view[1].(int64)
	if !ok || off < 0 || off > n {
		return nil, damaged("a view leaves storage %q", key)
	}
	return &part{s, off}, nil
}

var errNoStorage = damaged("the pickle refers to something that is no storage")

// run follows one pickle of the container.
func (p *torchPickle) run(in *cursor, mem *budget) (any, error) {
	m := &machine{in: in, mem: mem, global: lookup, persistent: p.persistent}
	return m.run()
}

// rebuildTensor is torch._utils._rebuild_tensor and its successors:
// (storage, offset, shape, strides, requires_grad, hooks[, element type, …]).
func rebuildTensor(m *machine, args tuple) (any, error) {
	if len(args) < 4 {
		return nil, damaged("a tensor is built from %d values", len(args))
	}
	from, ok1 := args[0].(*part)
	off, ok2 := args[1].(int64)
	dims, ok3 := args[2].(tuple)
	steps, ok4 := args[3].(tuple)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(dims) != len(steps) || off < 0 || off > math.MaxInt64-from.offset {
		return nil, damaged("a tensor is built from other values than a storage, an offset, a shape and strides")
	}
	if from.data.dtype == 0 {
		if len(args) < 7 {
			return nil, damaged("a tensor of untyped storage %q has no element type", from.data.key)
		}
		typ, ok := args[6].(elementType)
		if !ok {
			return nil, damaged("the element type of a tensor is a %s", kind(args[6]))
		}
		from.data.dtype = DType(typ)
		from.data.elems /= DType(typ).Size()
	}
	if err := m.mem.take(96 + 16*int64(len(dims))); err != nil {
		return nil, err
	}
	v := &view{data: from.data, offset: from.offset + off, shape: make(nd.Shape, len(dims)), strides: make([]int, len(dims))}
	for i := range dims {
		d, ok1 := dims[i].(int64)
		s, ok2 := steps[i].(int64)
		if !ok1 || !ok2 || int64(int(d)) != d || int64(int(s)) != s {
			return nil, damaged("the shape or the strides of a tensor are no numbers")
		}
		v.shape[i], v.strides[i] = int(d), int(s)
	}
	return v, nil
}

// rebuildParameter is torch._utils._rebuild_parameter: (tensor, requires_grad, hooks[, state]).
func rebuildParameter(_ *machine, args tuple) (any, error) {
	if len(args) > 0 {
		if v, ok := args[0].(*view); ok {
			return v, nil
		}
	}
	return nil, damaged("a parameter is built from something else than a tensor")
}

// rebuildFromType is torch._tensor._rebuild_from_type_v2: (function, type,
// arguments, state), for tensors that carry attributes.
func rebuildFromType(m *machine, args tuple) (any, error) {
	if len(args) != 4 {
		return nil, damaged("a tensor is built from %d values", len(args))
	}
	return m.call(args[0], args[2])
}
