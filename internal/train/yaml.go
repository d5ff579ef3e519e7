package train

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"resdet/internal/spell"
)

// Document is a YAML file that was parsed, to be decoded in parts.
type Document struct {
	name string
	root ast.Node // nil: the file is empty
}

// ParseYAML reads a file's text; errors call it name.
func ParseYAML(name string, text []byte) (*Document, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, yaml.FormatError(err, false, true))
	}
	d := &Document{name: name}
	switch len(file.Docs) {
	case 0:
	case 1:
		d.root = file.Docs[0].Body
	default:
		return nil, fmt.Errorf("%s: there are %d documents in it, want one", name, len(file.Docs))
	}
	return d, nil
}

// Check holds the keys of the document against the fields of a struct, to
// which like is a pointer: a key that it does not have is an error with its
// place and the nearest key.
func (d *Document) Check(like any) error {
	if d.root == nil {
		return nil
	}
	return d.check(d.root, reflect.TypeOf(like), "")
}

// Decode reads the document, or the part of it that the keys of path lead to,
// over what dst points to, which keeps what the document does not say. A part
// that is not there changes nothing.
func (d *Document) Decode(dst any, path ...string) error {
	node := d.root
	for _, key := range path {
		node = child(node, key)
	}
	if node == nil {
		return nil
	}
	if err := yaml.NodeToValue(node, dst); err != nil {
		return fmt.Errorf("%s: %s", d.name, yaml.FormatError(err, false, true))
	}
	return nil
}

// Has reports whether the document has a value under a path of keys; a nil
// document has none.
func (d *Document) Has(path ...string) bool {
	if d == nil {
		return false
	}
	node := d.root
	for _, key := range path {
		node = child(node, key)
	}
	return node != nil
}

// child returns the value under a key of a mapping; nil if there is none.
func child(n ast.Node, key string) ast.Node {
	for _, v := range members(n) {
		if v.Key.GetToken().Value == key {
			return v.Value
		}
	}
	return nil
}

func members(n ast.Node) []*ast.MappingValueNode {
	switch n := n.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

// check walks the document and the type side by side. What is of another kind
// than the type is left to Decode.
func (d *Document) check(n ast.Node, t reflect.Type, where string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Array:
		if list, ok := n.(*ast.SequenceNode); ok {
			for i, v := range list.Values {
				if err := d.check(v, t.Elem(), fmt.Sprintf("%s[%d]", where, i)); err != nil {
					return err
				}
			}
		}
	case reflect.Map:
		for _, v := range members(n) {
			if err := d.check(v.Value, t.Elem(), join(where, v.Key.GetToken().Value)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		fields := map[string]reflect.Type{}
		collect(t, fields)
		seen := map[string]bool{}
		for _, v := range members(n) {
			token := v.Key.GetToken()
			key := token.Value
			of, ok := fields[key]
			if !ok {
				return d.unknown(token.Position.Line, token.Position.Column, key, where, fields)
			}
			if seen[key] {
				return fmt.Errorf("%s:%d:%d: %q is there twice", d.name, token.Position.Line, token.Position.Column, join(where, key))
			}
			seen[key] = true
			if err := d.check(v.Value, of, join(where, key)); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(where, key string) string {
	if where == "" {
		return key
	}
	return where + "." + key
}

// collect lists the keys of a struct, those of inlined structs included.
func collect(t reflect.Type, fields map[string]reflect.Type) {
	for f := range t.Fields() {
		tag := f.Tag.Get("yaml")
		if tag == "" {
			tag = f.Tag.Get("json")
		}
		name, options, _ := strings.Cut(tag, ",")
		switch {
		case !f.IsExported() || name == "-":
		case strings.Contains(options, "inline"):
			collect(f.Type, fields)
		case name != "":
			fields[name] = f.Type
		}
	}
}

func (d *Document) unknown(line, column int, key, where string, fields map[string]reflect.Type) error {
	var names []string
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	in := ""
	if where != "" {
		in = " in " + where
	}
	hint := "it knows " + strings.Join(names, ", ")
	if near := spell.Nearest(key, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return fmt.Errorf("%s:%d:%d: unknown key %q%s; %s", d.name, line, column, key, in, hint)
}
