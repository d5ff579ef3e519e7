package web

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"resdet/web/page"
)

// pageRoutes serves the embedded page: / is its index.html, the other files
// have their own names. Files under assets/ are named by their content, so that
// browsers may keep them.
func (s *Server) pageRoutes(r *gin.RouterGroup) {
	err := fs.WalkDir(page.FS, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := fs.ReadFile(page.FS, name)
		if err != nil {
			return err
		}
		kind := mime.TypeByExtension(path.Ext(name))
		if kind == "" {
			kind = http.DetectContentType(body)
		}
		keep := "no-cache"
		if strings.HasPrefix(name, "assets/") {
			keep = "public, max-age=31536000, immutable"
		}
		squeezed := compressed(kind, body)
		serve := func(c *gin.Context) {
			c.Header("Cache-Control", keep)
			c.Header("Content-Type", kind)
			sent := body
			if squeezed != nil {
				c.Header("Vary", "Accept-Encoding")
				if strings.Contains(c.GetHeader("Accept-Encoding"), "gzip") {
					c.Header("Content-Encoding", "gzip")
					sent = squeezed
				}
			}
			http.ServeContent(c.Writer, c.Request, "", time.Time{}, bytes.NewReader(sent))
		}
		at := "/" + name
		if name == "index.html" {
			at = "/"
		}
		r.GET(at, serve)
		r.HEAD(at, serve)
		return nil
	})
	if err != nil {
		panic("web: the embedded page: " + err.Error()) // a broken build
	}
}

// compressed is the body of a text by gzip, once for all requests; nil for
// what is compressed already.
func compressed(kind string, body []byte) []byte {
	if strings.HasPrefix(kind, "image/") && !strings.HasPrefix(kind, "image/svg") {
		return nil
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil // the level is valid
	}
	if _, err := z.Write(body); err != nil || z.Close() != nil {
		return nil // a buffer takes everything
	}
	return b.Bytes()
}
