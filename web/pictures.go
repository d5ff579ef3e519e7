package web

import (
	"context"
	"errors"
	"image"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"resdet/internal/transform"
)

// upload is a picture as it came.
type upload struct {
	name    string
	data    []byte
	account *account
}

// maxName is the most bytes of a file's name: what file systems take.
const maxName = 255

// uploads reads the pictures of a request: the parts "image" of a form, or the
// body itself. Each has an account of its own, to be closed by the caller, also
// after an error.
func (s *Server) uploads(c *gin.Context) (list []*upload, err error) {
	if e := c.GetHeader("Content-Encoding"); e != "" && e != "identity" {
		return nil, failf(415, "encoded_body", "Content-Encoding %s is not taken: pictures are compressed already", clip(e))
	}
	body := http.MaxBytesReader(c.Writer, c.Request.Body, s.cfg.MaxBody)
	kind, options, err := mime.ParseMediaType(c.GetHeader("Content-Type"))
	if err != nil && c.GetHeader("Content-Type") != "" {
		return nil, failf(415, "wrong_type", "the Content-Type is malformed")
	}
	add := func(name string, r io.Reader) error {
		u := &upload{name: name, account: &account{budget: s.budget}}
		list = append(list, u)
		u.data, err = u.account.readAll(r)
		return err
	}
	switch {
	case kind == "multipart/form-data":
		if options["boundary"] == "" {
			return nil, failf(400, "bad_form", "the form has no boundary")
		}
		parts := multipart.NewReader(body, options["boundary"])
		for {
			part, err := parts.NextRawPart()
			if err == io.EOF {
				break
			}
			if err != nil {
				return list, badForm(err)
			}
			switch name := part.FileName(); {
			case part.FormName() != "image":
				return list, failf(400, "bad_form", "the part %q is not known: pictures are parts named \"image\"", clip(part.FormName()))
			case len(name) > maxName:
				return list, failf(400, "bad_name", "a file name of %d bytes is longer than %d", len(name), maxName)
			case len(list) == s.cfg.MaxImages:
				return list, failf(413, "too_many_pictures", "there are more than %d pictures", s.cfg.MaxImages)
			case name == "":
				err = add("image", part)
			default:
				err = add(strings.ToValidUTF8(name, "?"), part)
			}
			if err != nil {
				return list, badForm(err)
			}
		}
		if len(list) == 0 {
			return nil, failf(400, "no_picture", "the form has no part \"image\"")
		}
	case kind == "" || kind == "application/octet-stream" || strings.HasPrefix(kind, "image/"):
		if err := add("image", body); err != nil {
			return list, badBody(err)
		}
		if len(list[0].data) == 0 {
			return list, failf(400, "no_picture", "the body is empty: send a JPEG or PNG picture")
		}
	default:
		return nil, failf(415, "wrong_type", "the Content-Type %s is not taken: send image/jpeg, image/png or multipart/form-data", clip(kind))
	}
	return list, nil
}

// badForm explains an error of reading a form; what is not the reader's own is
// the form's fault.
func badForm(err error) error {
	if known := badBody(err); asFailure(known).status != 500 {
		return known
	}
	return failf(400, "bad_form", "the form is malformed: %s", clip(strings.TrimPrefix(err.Error(), "multipart: ")))
}

// badBody explains an error of reading a body.
func badBody(err error) error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return failf(408, "slow_body", "the body came too slowly")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return failf(400, "cut_body", "the body ends too early")
	}
	return err
}

func closeAll(list []*upload) {
	for _, u := range list {
		u.account.close()
	}
}

// decode makes a picture of the upload, whose bytes are free then. Few
// pictures are decoded at a time; how long that took is returned, the waiting
// apart.
func (s *Server) decode(ctx context.Context, u *upload) (image.Image, time.Duration, error) {
	limits := s.limits()
	info, err := transform.Inspect(u.data, limits)
	if err != nil {
		return nil, 0, err
	}
	if err := u.account.take(info.Memory); err != nil {
		return nil, 0, err
	}
	select {
	case s.decoders <- struct{}{}:
		defer func() { <-s.decoders }()
	case <-ctx.Done():
		return nil, 0, context.Cause(ctx)
	}
	start := time.Now()
	var img image.Image
	err = s.guarded("a decoder", func() (err error) { img, err = transform.DecodeBytes(u.data, limits); return err })
	if err != nil {
		return nil, 0, err
	}
	u.account.give(u.account.taken - info.Memory)
	u.data = nil
	return img, time.Since(start), nil
}

// limits of one picture.
func (s *Server) limits() transform.Limits {
	return transform.Limits{Bytes: s.cfg.MaxBody, Pixels: s.cfg.MaxPixels, Memory: s.cfg.Memory / 2}
}
