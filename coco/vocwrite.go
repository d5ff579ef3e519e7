package coco

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path"
	"strconv"
)

// AppendVOC appends an image and its objects to b as VOC's XML. A crowd
// becomes a difficult object, which VOC's evaluation passes over alike.
func AppendVOC(b []byte, im Image, classes []Class) ([]byte, error) {
	b = append(b, "<annotation>\n\t<filename>"...)
	b = appendXML(b, path.Base(slashed(im.File)))
	b = fmt.Appendf(b, "</filename>\n\t<size>\n\t\t<width>%d</width>\n\t\t<height>%d</height>\n\t\t<depth>3</depth>\n\t</size>\n\t<segmented>0</segmented>\n", im.Width, im.Height)
	for i, o := range im.Objects {
		if o.Class < 0 || o.Class >= len(classes) {
			return nil, fmt.Errorf("coco: image %s: object %d: class %d of %d", im.ID, i, o.Class, len(classes))
		}
		if !o.Box.Finite() {
			return nil, fmt.Errorf("coco: image %s: object %d: box %v is not finite", im.ID, i, o.Box)
		}
		b = append(b, "\t<object>\n\t\t<name>"...)
		b = appendXML(b, classes[o.Class].Name)
		b = fmt.Appendf(b, "</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>%d</truncated>\n\t\t<difficult>%d</difficult>\n\t\t<bndbox>\n", bit(o.Truncated), bit(o.Difficult || o.Crowd))
		xmin, ymin, xmax, ymax := o.Box.VOC()
		for k, v := range [4]float64{xmin, ymin, xmax, ymax} {
			b = fmt.Appendf(b, "\t\t\t<%s>%s</%s>\n", cornerName[k], strconv.FormatFloat(v, 'f', -1, 64), cornerName[k])
		}
		b = append(b, "\t\t</bndbox>\n\t</object>\n"...)
	}
	return append(b, "</annotation>\n"...), nil
}

// WriteVOCFile writes one image's XML.
func WriteVOCFile(file string, im Image, classes []Class) error {
	b, err := AppendVOC(nil, im, classes)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, b, 0o666); err != nil {
		return fmt.Errorf("coco: %w", err)
	}
	return nil
}

func bit(v bool) int {
	if v {
		return 1
	}
	return 0
}

func appendXML(b []byte, s string) []byte {
	var buf bytes.Buffer
	xml.EscapeText(&buf, []byte(s)) // a bytes.Buffer does not fail
	return append(b, buf.Bytes()...)
}
