package weights

// legacyMagic is 0x1950a86a20f9469cfc6c, little-endian as a pickle holds it.
const legacyMagic = bigInt("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")

// parseLegacy reads the container of torch before 1.6: the pickles of a magic
// number, a protocol, what wrote it, the object, and the storages' keys; then
// each storage, its number of elements before it. Elements are little-endian
// whatever machine wrote them.
func (c *Checkpoint) parseLegacy(mem *budget) error {
	p := torchPickle{storages: map[string]*storage{}}
	in := newCursor(c.r, 0, c.size)
	var parts [5]any
	for i := range parts {
		v, err := p.run(in, mem)
		if err != nil {
			return err
		}
		parts[i] = v
		if i == 1 && v != any(int64(1001)) {
			return damaged("protocol %v of the container is not known", v)
		}
	}
	keys, ok := parts[4].(*list)
	if !ok || len(keys.items) != len(p.storages) {
		return damaged("the list of storages does not fit the tensors")
	}
	for _, k := range keys.items {
		key, _ := k.(string)
		s := p.storages[key]
		if s == nil || s.found {
			return damaged("the list of storages names %q, which no tensor wants or which it has named", key)
		}
		m := machine{in: in}
		n, err := m.number(8)
		if err != nil {
			return err
		}
		if n != s.elems {
			return damaged("storage %q has %d elements, its tensors say %d", key, n, s.elems)
		}
		if s.dtype == 0 {
			return damaged("storage %q has no element type", key)
		}
		s.where = section{off: in.pos, size: n * s.dtype.Size(), plain: n * s.dtype.Size()}
		s.found = true
		if err := in.skip(s.where.size); err != nil {
			return err
		}
	}
	return c.stateDict(parts[3], mem)
}
