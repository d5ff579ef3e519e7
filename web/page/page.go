// Package page holds the built files of the front end.
//
//	src/ (TypeScript) ─ vite ─▶ dist/ ─ embed ─▶ FS ─▶ package web
package page

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// FS has index.html and what it refers to.
var FS = sub()

func sub() fs.FS {
	f, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // "dist" is a valid path
	}
	return f
}
