package jobs

import (
	"path"
	"strings"
	"unicode"
)

// maxName bounds the names of jobs and of what is in archives, in bytes.
const maxName = 512

// cleanName makes a client's file name fit to be shown and to be suggested for
// saving: its last element, without control characters, of bounded length.
func cleanName(name string) string {
	name = strings.ToValidUTF8(name, "\ufffd")
	name = path.Base(strings.ReplaceAll(name, `\`, "/"))
	name = strings.TrimSpace(strings.Map(printable, name))
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "") // not half a letter
	}
	if name == "" || name == "." || name == ".." || name == "/" {
		return unnamed
	}
	return name
}

// unnamed is the name of what has none.
const unnamed = "unnamed"

// printable drops what a terminal or a header would act on, direction marks
// included.
func printable(r rune) rune {
	if !unicode.IsGraphic(r) {
		return -1
	}
	return r
}

// entryName returns an archive's name for an entry with slashes and without
// empty elements; an error says why nobody should unpack it.
func entryName(name string) (string, error) {
	switch {
	case name == "":
		return "", faultf(BadInput, "an entry of the archive has no name")
	case len(name) > maxName:
		return "", faultf(BadInput, "an entry of the archive has a name of %d bytes; %d are allowed", len(name), maxName)
	}
	slashed := strings.ReplaceAll(strings.ToValidUTF8(name, "\ufffd"), `\`, "/")
	if strings.HasPrefix(slashed, "/") || len(slashed) > 1 && slashed[1] == ':' {
		return "", faultf(BadInput, "the archive's entry %q is not within the archive's folder", name)
	}
	for element := range strings.SplitSeq(slashed, "/") {
		if element == ".." {
			return "", faultf(BadInput, "the archive's entry %q leads out of the archive's folder", name)
		}
	}
	if strings.ContainsFunc(slashed, unicode.IsControl) {
		return "", faultf(BadInput, "the archive's entry %q has control characters in its name", name)
	}
	return path.Clean(slashed), nil
}

// isPicture reports whether a name is one of a JPEG or PNG file that its owner
// would call his: systems leave files of the same endings that are not.
func isPicture(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".jpg", ".jpeg", ".png":
		return !strings.HasPrefix(path.Base(name), ".") && !strings.HasPrefix(name, "__MACOSX/")
	}
	return false
}

// isDataFile reports whether a name is one of the files that data sets are made
// of: pictures, also of kinds that nobody reads, for the check to say so, and
// annotations.
func isDataFile(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".xml", ".json", ".txt", ".yaml", ".yml", ".bmp", ".gif", ".tif", ".tiff", ".webp":
		return !strings.HasPrefix(path.Base(name), ".") && !strings.HasPrefix(name, "__MACOSX/")
	}
	return isPicture(name)
}

// modelName makes a model's name of a text: letters, digits, dots, dashes and
// underscores, of which files may be called.
func modelName(text string) string {
	for _, ext := range []string{".zip", ".tar", ".tgz", ".tar.gz"} {
		text = strings.TrimSuffix(text, ext)
	}
	name := strings.Trim(strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._-", r)) {
			return r
		}
		return '-'
	}, text), ".-_")
	if len(name) > maxModelName {
		name = name[:maxModelName]
	}
	if name == "" {
		return "model"
	}
	return name
}

// maxModelName leaves room for a number behind it.
const maxModelName = 60
