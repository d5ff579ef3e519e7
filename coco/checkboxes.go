package coco

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// slack is by how many pixels a box may leave its image unnoticed: COCO's
// boxes have two decimals and YOLO's six of the image's size.
const slack = 0.1

// conventions looks for boxes of the whole set that are in another convention
// than the format's, and brings them into it, so that not each of them is
// reported.
func (c *checker) conventions() {
	switch c.d.Format {
	case FormatCOCO:
		c.corners()
	case FormatVOC:
		c.zeroBased()
	case FormatYOLO:
		c.pixels()
	}
}

// each calls f for every object of every image that is kept.
func (c *checker) each(f func(i int, im *Image, k int, o *Object)) {
	for i := range c.d.Images {
		if c.gone[i] {
			continue
		}
		im := &c.d.Images[i]
		for k := range im.Objects {
			f(i, im, k, &im.Objects[k])
		}
	}
}

// corners finds x1, y1, x2, y2 where x, y, width, height belongs: read as
// corners nearly all boxes are in order and within their images, which boxes
// of the right kind are not, and as they stand some leave their images.
func (c *checker) corners() {
	n, ordered, outside := 0, 0, 0
	first := [2]int{0, -1}
	c.each(func(i int, im *Image, k int, o *Object) {
		if im.Width == 0 || im.Height == 0 {
			return
		}
		n++
		b, w, h := o.Box, float64(im.Width), float64(im.Height)
		if b.W > b.X && b.H > b.Y && b.W <= w+1 && b.H <= h+1 && b.X >= -1 && b.Y >= -1 {
			ordered++
		}
		if b.X1() > w+1 || b.Y1() > h+1 {
			if outside++; outside == 1 {
				first = [2]int{i, k}
			}
		}
	})
	// One box in ten outside is far more than sloppy drawing gives.
	if n == 0 || float64(ordered) < 0.95*float64(n) || float64(outside) < 0.1*float64(n) {
		return
	}
	c.setFault(BoxCorners, first, n, "write x, y, width, height; --fix does",
		"the boxes look like x1, y1, x2, y2: %d of %d leave their images as x, y, width, height, and %d are in order and inside as corners", outside, n, ordered)
	c.each(func(i int, _ *Image, _ int, o *Object) {
		b := o.Box
		o.Box = BoxFromCorners(b.X, b.Y, b.W, b.H)
		if o.Area > o.Box.Area() {
			o.Area = o.Box.Area()
		}
		c.changed[i] = true
	})
}

// zeroBased finds VOC corners of 0, which a format that counts pixels from 1
// does not have. Whole sets are made so; then the others are off by one, too.
func (c *checker) zeroBased() {
	zeros, ones, atEdge, beforeEdge := 0, 0, 0, 0
	first := [2]int{0, -1}
	c.each(func(i int, im *Image, k int, o *Object) {
		b := o.Box
		if b.X >= -1 && b.X < 0 || b.Y >= -1 && b.Y < 0 {
			if zeros++; zeros == 1 {
				first = [2]int{i, k}
			}
		}
		ones += bit(b.X == 0 || b.Y == 0)
		w, h := float64(im.Width), float64(im.Height)
		atEdge += bit(b.X1() == w || b.Y1() == h)
		beforeEdge += bit(b.X1() == w-1 || b.Y1() == h-1)
	})
	if zeros == 0 {
		return
	}
	what := fmt.Sprintf("%d boxes have xmin or ymin 0, %d have 1; VOC counts pixels from 1, so 0 becomes −1", zeros, ones)
	switch {
	case zeros <= ones:
		c.setFault(ZeroBased, first, zeros, "set them to 1; --fix does", "%s", what)
		c.each(func(i int, _ *Image, _ int, o *Object) {
			x, y := max(o.Box.X, 0), max(o.Box.Y, 0)
			if o.Box.X >= -1 && o.Box.Y >= -1 && (x != o.Box.X || y != o.Box.Y) {
				o.Box = BoxFromCorners(x, y, o.Box.X1(), o.Box.Y1())
				c.changed[i] = true
			}
		})
	case atEdge > beforeEdge: // corners lie between pixels: 0 … width
		c.setFault(ZeroBased, first, zeros, "add 1 to every xmin and ymin; --fix does", "%s: this set counts edges from 0", what)
		c.each(func(i int, _ *Image, _ int, o *Object) {
			o.Box = BoxFromCorners(o.Box.X+1, o.Box.Y+1, o.Box.X1(), o.Box.Y1())
			c.changed[i] = true
		})
	default:
		c.setFault(ZeroBased, first, zeros, "add 1 to every corner; --fix does", "%s: this set counts pixels from 0", what)
		c.each(func(i int, _ *Image, _ int, o *Object) {
			o.Box.X++
			o.Box.Y++
			c.changed[i] = true
		})
	}
}

// pixels finds YOLO rows in pixels where fractions belong.
func (c *checker) pixels() {
	n, large := 0, 0
	first := [2]int{0, -1}
	inPixels := func(im *Image, o *Object) bool {
		w, h := float64(im.Width), float64(im.Height)
		return max(o.Box.X+o.Box.W/2, o.Box.W) > 2*w || max(o.Box.Y+o.Box.H/2, o.Box.H) > 2*h
	}
	c.each(func(i int, im *Image, k int, o *Object) {
		n++
		if inPixels(im, o) {
			if large++; large == 1 {
				first = [2]int{i, k}
			}
		}
	})
	if large == 0 || 2*large < n {
		return
	}
	c.setFault(BoxPixels, first, large, "divide x and width by the photo's width, y and height by its height; --fix does",
		"%d of %d rows have values far above 1: they look like pixels, not fractions", large, n)
	c.each(func(i int, im *Image, _ int, o *Object) {
		if inPixels(im, o) {
			w, h := float64(im.Width), float64(im.Height)
			o.Box = Box{o.Box.X / w, o.Box.Y / h, o.Box.W / w, o.Box.H / h}
			o.Area = o.Box.Area()
			c.changed[i] = true
		}
	})
}

// boxes looks at each box by itself.
func (c *checker) boxes() {
	for i := range c.d.Images {
		im := &c.d.Images[i]
		if c.gone[i] {
			continue
		}
		kept := im.Objects[:0]
		for k := range im.Objects {
			if o := im.Objects[k]; c.box(i, &o) {
				kept = append(kept, o)
			}
		}
		im.Objects = kept
	}
}

// box checks and repairs a box; false leaves the object out.
func (c *checker) box(i int, o *Object) bool {
	im := &c.d.Images[i]
	b := o.Box
	voc := c.d.Format == FormatVOC
	// In VOC both corners are inside, so that a box from a pixel to itself is
	// 1 wide: a click, not a box.
	least := 0.0
	if voc {
		least = 1
	}
	shown := b.String()
	if voc {
		xmin, ymin, xmax, ymax := b.VOC()
		shown = fmt.Sprintf("%s %s %s %s", short(xmin), short(ymin), short(xmax), short(ymax))
	}
	if b.W < least || b.H < least {
		c.objectFault(BoxInverted, i, o, "exchange the corners; --fix does", "box %s has its corners in the wrong order", shown)
		b = c.reorder(b)
	}
	if b.W <= least || b.H <= least {
		c.objectFault(BoxEmpty, i, o, "draw it again or remove it; --fix removes it", "box %s has no area", shown)
		return false
	}
	w, h := float64(im.Width), float64(im.Height)
	if w > 0 && h > 0 {
		over := max(-b.X, -b.Y, b.X1()-w, b.Y1()-h)
		if over > slack {
			clipped := BoxFromCorners(max(b.X, 0), max(b.Y, 0), min(b.X1(), w), min(b.Y1(), h))
			if clipped.W <= least || clipped.H <= least {
				c.objectFault(BoxOutside, i, o, "draw it again or remove it; --fix removes it", "box %s lies outside the image of %d×%d", shown, im.Width, im.Height)
				return false
			}
			c.objectFault(BoxOutside, i, o, "clip it; --fix does", "box %s reaches %s px beyond the image of %d×%d", shown, short(over), im.Width, im.Height)
			b = clipped
		}
	}
	if b != o.Box {
		o.Box = b
		if c.d.Format == FormatCOCO {
			o.Area = min(o.Area, b.Area())
		}
	}
	if c.d.Format != FormatCOCO {
		o.Area = b.Area()
	} else if !(o.Area > 0) || o.Area > 1.01*b.Area()+1 {
		c.objectFault(BadArea, i, o, "correct it, since results by size depend on it; --fix takes the box's", "area %s, its box has %s", short(o.Area), short(b.Area()))
		o.Area = b.Area()
	}
	return true
}

// reorder exchanges the corners of an inverted box.
func (c *checker) reorder(b Box) Box {
	if c.d.Format == FormatVOC {
		xmin, ymin, xmax, ymax := b.VOC()
		return BoxFromVOC(min(xmin, xmax), min(ymin, ymax), max(xmin, xmax), max(ymin, ymax))
	}
	return BoxFromCorners(min(b.X, b.X1()), min(b.Y, b.Y1()), max(b.X, b.X1()), max(b.Y, b.Y1()))
}

// roundBox puts the corners on whole pixels.
func roundBox(b Box) Box {
	return BoxFromCorners(math.Round(b.X), math.Round(b.Y), math.Round(b.X1()), math.Round(b.Y1()))
}

// duplicates finds objects that are there twice.
func (c *checker) duplicates() {
	type key struct {
		class int
		box   Box
	}
	seen := map[key]int32{}
	for i := range c.d.Images {
		im := &c.d.Images[i]
		if c.gone[i] || len(im.Objects) < 2 {
			continue
		}
		clear(seen)
		im.Objects = slices.DeleteFunc(im.Objects, func(o Object) bool {
			k := key{o.Class, o.Box}
			first, twice := seen[k]
			if !twice {
				seen[k] = o.Index
				return false
			}
			c.objectFault(BoxDuplicate, i, &o, "remove one; --fix does", "box %v is that of object %d again", o.Box, first)
			return true
		})
	}
}

// ids finds annotations of one id and photos listed twice.
func (c *checker) ids() {
	if c.d.Format == FormatCOCO {
		seen := make(map[int64]bool, c.d.Objects())
		next := int64(0)
		c.each(func(_ int, _ *Image, _ int, o *Object) { next = max(next, o.ID) })
		c.each(func(i int, _ *Image, _ int, o *Object) {
			if !seen[o.ID] {
				seen[o.ID] = true
				return
			}
			c.objectFault(DuplicateID, i, o, "give it an id of its own; --fix does", "another annotation has the id %d", o.ID)
			next++
			o.ID = next
		})
	}
	first := map[string]int{}
	for i := range c.d.Images {
		im := &c.d.Images[i]
		if c.gone[i] {
			continue
		}
		key := im.Path
		if key == "" {
			key = im.File
		}
		k, twice := first[key]
		if !twice || key == "" {
			first[key] = i
			continue
		}
		other := &c.d.Images[k]
		where := ""
		if other.Annotation != im.Annotation {
			where = " in " + other.Annotation
		}
		c.faults = append(c.faults, Fault{Kind: ImageTwice, File: im.Annotation, Object: -1, Image: im.ID, Count: 1,
			Message: fmt.Sprintf("%s is annotated twice: as image %s%s and as image %s", im.File, other.ID, where, im.ID),
			Fix:     "make them one; --fix gives the objects of both to the first"})
		other.Objects = append(other.Objects[:len(other.Objects):len(other.Objects)], im.Objects...)
		c.gone[i], c.changed[k] = true, true
	}
}

// classes finds names that differ in case and spacing only, and names that
// do not belong.
func (c *checker) classes(allowed []string) {
	counts := make([]int, len(c.d.Classes))
	c.each(func(_ int, _ *Image, _ int, o *Object) { counts[o.Class]++ })
	to := make([]int, len(c.d.Classes)) // the class that each becomes; −1 removes
	groups := map[string][]int{}
	for i, cl := range c.d.Classes {
		to[i] = i
		groups[sameName(cl.Name)] = append(groups[sameName(cl.Name)], i)
	}
	for i, cl := range c.d.Classes {
		g := groups[sameName(cl.Name)]
		if len(g) < 2 || g[0] != i {
			continue
		}
		best := g[0]
		for _, k := range g {
			if c.betterName(k, best, counts, allowed) {
				best = k
			}
		}
		for _, k := range g {
			if k == best {
				continue
			}
			to[k] = best
			c.spelling(k, best, counts)
		}
	}
	if c.d.Format == FormatVOC && len(allowed) == 0 {
		c.slips(to, counts)
	}
	strange := c.strange(allowed, to, counts)
	for k, why := range strange {
		to[k] = -1
		c.each(func(i int, _ *Image, _ int, o *Object) {
			if o.Class == k {
				c.objectFault(UnknownClass, i, o, "rename it, or name the classes with --classes; --fix removes the object", "%s", why)
			}
		})
	}
	c.renumber(to)
}

// betterName reports whether class k's name should stand for class than's: the
// one asked for, the one that VOC or COCO has, the more frequent.
func (c *checker) betterName(k, than int, counts []int, allowed []string) bool {
	a, b := c.d.Classes[k].Name, c.d.Classes[than].Name
	for _, list := range [][]string{allowed, vocNames, cocoNames[:]} {
		if ina, inb := slices.Contains(list, a), slices.Contains(list, b); ina != inb {
			return ina
		}
	}
	return counts[k] > counts[than]
}

// spelling notes that class k is class best under another spelling: in VOC at
// each object, since each has the name; in the others at the list of classes.
func (c *checker) spelling(k, best int, counts []int) {
	name, other := c.d.Classes[k].Name, c.d.Classes[best].Name
	fix := fmt.Sprintf("call it %q; --fix does", other)
	if c.d.Format == FormatVOC {
		c.each(func(i int, _ *Image, _ int, o *Object) {
			if o.Class == k {
				c.objectFault(ClassSpelling, i, o, fix, "%q and %q differ in case or spacing only", name, other)
			}
		})
		return
	}
	c.faults = append(c.faults, Fault{Kind: ClassSpelling, File: c.d.Path, Object: -1, Count: 1, Fix: fix,
		Message: fmt.Sprintf("classes %q (%d objects) and %q (%d) differ in case or spacing only", name, counts[k], other, counts[best])})
}

// strange returns the classes that do not belong, with the reason: those not
// asked for; and in a set whose other classes are all VOC's or all COCO's, one
// that is neither and has an object or two.
func (c *checker) strange(allowed []string, to, counts []int) map[int]string {
	out := map[int]string{}
	if len(allowed) > 0 {
		for k, cl := range c.d.Classes {
			if to[k] == k && counts[k] > 0 && !slices.Contains(allowed, cl.Name) {
				out[k] = fmt.Sprintf("the class is not one of %s", some(allowed))
			}
		}
		return out
	}
	if c.d.Format != FormatVOC {
		return out // these formats list their classes, and readers hold objects against the list
	}
	known, rare := 0, []int{}
	for k, cl := range c.d.Classes {
		switch {
		case to[k] != k:
		case slices.Contains(vocNames, cl.Name):
			known++
		case counts[k] > 2:
			return out // a class of its own right
		default:
			rare = append(rare, k)
		}
	}
	if known < 3 || len(rare) > known {
		return out
	}
	for _, k := range rare {
		out[k] = fmt.Sprintf("the class is not one of VOC's twenty, as the %d others of this set are", known)
	}
	return out
}

// slips finds misspelt names: a class with an object or two whose name is one
// letter from that of a class with at least ten times as many. Short names and
// those that differ in a digit are often different things.
func (c *checker) slips(to, counts []int) {
	for k, cl := range c.d.Classes {
		if to[k] != k || counts[k] == 0 || counts[k] > 2 || len(cl.Name) < 5 || slices.Contains(vocNames, cl.Name) {
			continue
		}
		for best, other := range c.d.Classes {
			if to[best] != best || counts[best] < 10*counts[k] || !oneLetterApart(cl.Name, other.Name) {
				continue
			}
			to[k] = best
			fix := fmt.Sprintf("call it %q, or name the classes with --classes; --fix does the former", other.Name)
			c.each(func(i int, _ *Image, _ int, o *Object) {
				if o.Class == k {
					c.objectFault(UnknownClass, i, o, fix, "%d objects of the set are called %q, %d are called %q: a slip of the pen?", counts[k], cl.Name, counts[best], other.Name)
				}
			})
			break
		}
	}
}

// oneLetterApart reports whether two names differ by one letter that is
// missing, added, other or exchanged with its neighbour.
func oneLetterApart(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	ra, rb := a[i:], b[i:]
	digit := func(s string) bool { return s != "" && s[0] >= '0' && s[0] <= '9' }
	if digit(ra) || digit(rb) {
		return false
	}
	switch len(b) - len(a) {
	case 0:
		return len(ra) > 0 && (ra[1:] == rb[1:] || len(ra) > 1 && ra[0] == rb[1] && ra[1] == rb[0] && ra[2:] == rb[2:])
	case 1:
		return ra == rb[1:]
	}
	return false
}

// renumber gives the objects their repaired classes and takes classes out of
// the list that have become others.
func (c *checker) renumber(to []int) {
	index := make([]int, len(to))
	var kept []Class
	for i, cl := range c.d.Classes {
		index[i] = -1
		if to[i] == i {
			index[i] = len(kept)
			kept = append(kept, cl)
		}
	}
	if len(kept) == len(c.d.Classes) {
		return
	}
	for i := range c.d.Images {
		im := &c.d.Images[i]
		objects := im.Objects[:0]
		for _, o := range im.Objects {
			k := to[o.Class]
			if k < 0 {
				continue
			}
			if k != o.Class {
				c.changed[i] = true
			}
			o.Class = index[k]
			objects = append(objects, o)
		}
		im.Objects = objects
	}
	if c.d.Format != FormatCOCO {
		names := map[string]bool{}
		for i := range kept {
			kept[i].ID = i + 1
			names[kept[i].Name] = true
		}
		if c.d.Format == FormatVOC {
			if all := classesFound(names); len(all) == len(vocNames) {
				at := classIndex(all)
				c.each(func(_ int, _ *Image, _ int, o *Object) { o.Class = at[kept[o.Class].Name] })
				kept = all
			}
		}
	}
	c.d.Classes = kept
}

// isLabelNote reports whether a text file beside labels is none: lists of
// classes and notes that tools leave there.
func isLabelNote(name string) bool {
	switch strings.ToLower(name) {
	case "classes.txt", "notes.txt", "readme.txt", "obj.txt", "train.txt", "val.txt", "test.txt":
		return true
	}
	return strings.HasPrefix(name, ".") || strings.HasPrefix(strings.ToLower(name), "readme")
}
