package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// expandInputs turns the arguments into files: a folder into its photos in
// byte order, a glob into what it matches. An argument that holds nothing is
// an error of its own; the others are still done.
func expandInputs(args []string) (inputs []string, wrong []error) {
	for _, arg := range args {
		found, err := expandInput(arg)
		inputs = append(inputs, found...)
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	return inputs, wrong
}

func expandInput(arg string) ([]string, error) {
	info, err := os.Stat(arg)
	switch {
	case arg == "-":
	case err == nil && info.IsDir():
		entries, err := os.ReadDir(arg)
		if err != nil {
			return nil, err
		}
		var photos []string
		for _, e := range entries {
			if !e.IsDir() && isPhoto(e.Name()) {
				photos = append(photos, filepath.Join(arg, e.Name()))
			}
		}
		if len(photos) == 0 {
			return nil, hintError{fmt.Errorf("%s: no photo in this folder", arg), "photos end with .jpg, .jpeg or .png; folders below are not searched"}
		}
		return photos, nil
	case err != nil && strings.ContainsAny(arg, "*?["):
		matches, err := filepath.Glob(arg)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", arg, err)
		}
		if len(matches) == 0 {
			return nil, fmt.Errorf("%s: no file matches", arg)
		}
		return matches, nil
	}
	return []string{arg}, nil // a file, or none: the error comes when it is opened
}

func isPhoto(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return true
	}
	return false
}

// checkTargets refuses, before anything is done, inputs of which one would
// take another's place: a photo that its drawing would overwrite, two that
// would be drawn to the same file, two that COCO's results could not tell
// apart, and standard input twice. dir is the folder for drawings or "".
func checkTargets(inputs []string, format, dir string) error {
	photos := make(map[string]bool, len(inputs)) // by their path without links
	taken := make(map[string]string, len(inputs))
	for _, input := range inputs {
		if input == "-" {
			if photos[input] {
				return usagef("- stands for standard input, which can be read only once")
			}
			photos[input] = true
		} else if dir != "" {
			photos[realPath(input)] = true
		}
	}
	for _, input := range inputs {
		var names []string // that must be this input's alone
		if dir != "" {
			target := filepath.Join(dir, drawnName(input))
			if photos[realPath(target)] || input != "-" && sameFile(input, target) {
				return usageError{hintError{fmt.Errorf("--out %s: %s would be overwritten", dir, target), "give the drawn images a folder of their own"}}
			}
			names = append(names, drawnName(input))
		}
		if format == "voc" {
			names = append(names, stem(input)+".xml")
		}
		if format == "coco" {
			names = append(names, "image_id "+stem(input))
		}
		for _, name := range names {
			if other, ok := taken[name]; ok {
				return usageError{hintError{fmt.Errorf("%s and %s would both be %s in the results", other, input, name), "detect on them in two runs, or leave out --out and use --format json"}}
			}
			taken[name] = input
		}
	}
	return nil
}

// realPath is the absolute path without symbolic links; of a file that is not
// there the path as it is.
func realPath(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		path = p
	}
	if p, err := filepath.Abs(path); err == nil {
		path = p
	}
	return path
}

// sameFile says whether both names lead to one file, by hard links too.
func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
