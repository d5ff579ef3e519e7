package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"

	"resdet/internal/spell"
)

// environmentPrefix begins the names of the environment's settings: --max-body
// is RESDET_SERVE_MAX_BODY there, and max_body in the file.
const environmentPrefix = "RESDET_SERVE_"

func fileKey(flag string) string     { return strings.ReplaceAll(flag, "-", "_") }
func environment(flag string) string { return environmentPrefix + strings.ToUpper(fileKey(flag)) }

// unset are flags that say what to do, which neither file nor environment may.
var unset = []string{"config", "check-config", "help"}

// settle gives each flag that the command line left alone its value from the
// environment, or else from the file. It returns where each value is from.
func settle(f *pflag.FlagSet, environ []string, file string) (from map[string]string, err error) {
	from = map[string]string{}
	f.Visit(func(flag *pflag.Flag) { from[flag.Name] = "flag" })
	var errs []error
	if file != "" {
		settings, err := readSettings(file)
		if err != nil {
			return nil, err
		}
		names := settable(f)
		for _, s := range settings {
			i := slices.IndexFunc(names, func(name string) bool { return fileKey(name) == s.key })
			if i < 0 {
				keys := make([]string, len(names))
				for i, name := range names {
					keys[i] = fileKey(name)
				}
				err := fmt.Errorf("%s:%d: there is no setting %q", file, s.line, s.key)
				if near := spell.Nearest(s.key, keys); near != "" {
					err = fmt.Errorf("%w; did you mean %s?", err, near)
				}
				errs = append(errs, err)
				continue
			}
			if err := set(f, from, names[i], s.values, "file"); err != nil {
				errs = append(errs, fmt.Errorf("%s:%d: %s: %w", file, s.line, s.key, err))
			}
		}
	}
	for _, name := range settable(f) {
		key := environment(name) + "="
		i := slices.IndexFunc(environ, func(v string) bool { return strings.HasPrefix(v, key) })
		if i < 0 {
			continue
		}
		value := environ[i][len(key):]
		values := []string{value}
		if _, ok := f.Lookup(name).Value.(pflag.SliceValue); ok {
			values = strings.FieldsFunc(value, func(r rune) bool { return r == ',' })
		}
		if err := set(f, from, name, values, "environment"); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", environment(name), err))
		}
	}
	return from, errors.Join(errs...)
}

// strays are the environment's settings that nobody knows. They are no errors:
// a cluster's service named resdet-serve makes such variables.
func strays(f *pflag.FlagSet, environ []string) (names []string) {
	known := append(settable(f), "config")
	for _, v := range environ {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, environmentPrefix) && !slices.ContainsFunc(known, func(flag string) bool { return environment(flag) == name }) {
			names = append(names, name)
		}
	}
	return names
}

// settable are the flags that file and environment may set.
func settable(f *pflag.FlagSet) (names []string) {
	f.VisitAll(func(flag *pflag.Flag) {
		if !slices.Contains(unset, flag.Name) {
			names = append(names, flag.Name)
		}
	})
	return names
}

// set gives a flag its values unless the command line has.
func set(f *pflag.FlagSet, from map[string]string, name string, values []string, origin string) error {
	if from[name] == "flag" {
		return nil
	}
	from[name] = origin
	if list, ok := f.Lookup(name).Value.(pflag.SliceValue); ok {
		return list.Replace(values) // Set would append to what the file has set
	}
	if len(values) != 1 {
		return errors.New("it is one value, not a list")
	}
	return f.Lookup(name).Value.Set(values[0])
}

// setting is a key of the file with its value, or its list of values.
type setting struct {
	key    string
	line   int
	values []string
}

// maxSettings bounds the file: with comments on every setting it has some kB.
const maxSettings = 1 << 20

// readSettings reads a YAML file that is one mapping of names to values and
// lists of values.
func readSettings(name string) ([]setting, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSettings+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSettings {
		return nil, fmt.Errorf("%s: a file of settings has less than %d bytes", name, maxSettings)
	}
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var settings []setting
	for _, doc := range parsed.Docs {
		var pairs []*ast.MappingValueNode
		switch body := doc.Body.(type) {
		case nil:
			continue
		case *ast.MappingNode:
			pairs = body.Values
		case *ast.MappingValueNode:
			pairs = []*ast.MappingValueNode{body}
		default:
			return nil, fmt.Errorf("%s:%d: lines of NAME: VALUE are wanted", name, body.GetToken().Position.Line)
		}
		for _, pair := range pairs {
			s := setting{key: pair.Key.String(), line: pair.Key.GetToken().Position.Line}
			values := []ast.Node{pair.Value}
			if list, ok := pair.Value.(*ast.SequenceNode); ok {
				values = list.Values
			}
			for _, v := range values {
				scalar, ok := v.(ast.ScalarNode)
				if !ok {
					return nil, fmt.Errorf("%s:%d: %s is neither a value nor a list of values", name, s.line, s.key)
				}
				s.values = append(s.values, scalar.GetToken().Value)
			}
			if slices.ContainsFunc(settings, func(o setting) bool { return o.key == s.key }) {
				return nil, fmt.Errorf("%s:%d: %s is there twice", name, s.line, s.key)
			}
			settings = append(settings, s)
		}
	}
	return settings, nil
}

// byteSize is a flag's number of bytes: 1000, 64KiB, 32MiB, 2GiB, 1TiB.
type byteSize int64

var byteUnits = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String writes the size in the largest unit that gives a whole number.
func (b *byteSize) String() string {
	for _, u := range byteUnits {
		if n := int64(*b); n > 0 && n%u.bytes == 0 {
			return fmt.Sprint(n/u.bytes, u.name)
		}
	}
	return fmt.Sprint(int64(*b))
}

// Set reads a size.
func (b *byteSize) Set(text string) error {
	unit := int64(1)
	number := text
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = rest, u.bytes
			break
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0) || n*float64(unit) > math.MaxInt64/2 {
		return fmt.Errorf("%q is not a size like 1000, 32MiB or 2GiB", text)
	}
	*b = byteSize(n * float64(unit))
	return nil
}

// Type is what the help calls it.
func (b *byteSize) Type() string { return "size" }
