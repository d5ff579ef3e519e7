package weights

// wrappers are the names under which training checkpoints keep the weights,
// beside the optimizer and the rest.
var wrappers = []string{"model", "blobs", "state_dict", "model_state_dict", "model_state", "net", "network", "weights"}

// stateDict adds the tensors of a pickled value to the checkpoint: those of a
// state dict, or of the one that a training checkpoint wraps. Tensors of inner
// dicts get the path as their name, with dots.
func (c *Checkpoint) stateDict(root any, mem *budget) error {
	d, ok := root.(*dict)
	if !ok {
		return damaged("it holds a %s, not a dict of tensors", kind(root))
	}
	c.notes(d, mem)
	for range 4 {
		inner := unwrap(d)
		if inner == nil {
			break
		}
		d = inner
	}
	w := walk{c: c, mem: mem, seen: map[*dict]bool{}, place: map[string]int{}}
	if err := w.dict("", d, 0); err != nil {
		return err
	}
	if len(c.Tensors) > 0 {
		return nil
	}
	var names []string
	for _, it := range d.items {
		if name, ok := it.key.(string); ok && len(names) < 10 {
			names = append(names, name)
		}
	}
	return damaged("it holds no tensors; its dict has the keys %q", names)
}

// notes keeps what a training checkpoint says in short words beside the weights,
// such as its way of pooling.
func (c *Checkpoint) notes(d *dict, mem *budget) {
	const most = 16
	for _, it := range d.items {
		name, ok1 := it.key.(string)
		value, ok2 := it.value.(string)
		if !ok1 || !ok2 || len(value) > 64 || len(c.Metadata) == most {
			continue
		}
		if mem.take(mapBytes) != nil {
			return
		}
		if c.Metadata == nil {
			c.Metadata = map[string]string{}
		}
		c.Metadata[name] = value
	}
}

// unwrap returns the state dict that d wraps; nil if d has tensors itself or
// nothing known holds any.
func unwrap(d *dict) *dict {
	for _, it := range d.items {
		switch it.value.(type) {
		case *view, *array:
			return nil
		}
	}
	for _, name := range wrappers {
		for _, it := range d.items {
			if inner, ok := it.value.(*dict); ok && it.key == any(name) && len(inner.items) > 0 {
				return inner
			}
		}
	}
	return nil
}

// walk collects tensors. A pickle may hold a dict in itself or in many places:
// each is entered once, so that the work is bounded by what the file has.
type walk struct {
	c     *Checkpoint
	mem   *budget
	seen  map[*dict]bool
	place map[string]int // of a tensor in the list, by key
}

const maxDepth = 16

func (w *walk) dict(prefix string, d *dict, depth int) error {
	if w.seen[d] || depth > maxDepth {
		return nil
	}
	if err := w.mem.take(64); err != nil {
		return err
	}
	w.seen[d] = true
	for _, it := range d.items {
		name, ok := it.key.(string)
		if !ok {
			continue
		}
		switch v := it.value.(type) {
		case *dict:
			if err := w.mem.take(int64(len(prefix) + len(name) + 17)); err != nil {
				return err
			}
			if err := w.dict(prefix+name+".", v, depth+1); err != nil {
				return err
			}
		case *view:
			if err := w.tensor(prefix+name, v); err != nil {
				return err
			}
		case *array:
			if v.opaque {
				continue
			}
			if v.data == nil {
				return damaged("array %q has no elements", name)
			}
			if err := w.tensor(prefix+name, &v.view); err != nil {
				return err
			}
		}
	}
	return nil
}

// tensor adds one array. As in Python, of two values under one key the later wins.
func (w *walk) tensor(key string, v *view) error {
	if err := w.mem.take(int64(len(key)) + mapBytes); err != nil {
		return err
	}
	if i, ok := w.place[key]; ok {
		if _, err := v.extent(); err != nil {
			return err
		}
		w.c.Tensors[i] = Tensor{Key: key, Shape: v.shape, DType: v.data.dtype, view: *v}
		return nil
	}
	w.place[key] = len(w.c.Tensors)
	return w.c.add(w.mem, key, *v)
}
