// Package web holds the browser side of Sealgate: page templates and what
// build.mjs made of the scripts, style sheets and fixed files.
//
// dist is not in the repository; `make web` (npm ci && npm run build) makes it.
// A program built without it says so when it starts (front.LoadAssets).
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

//go:embed templates
var templates embed.FS

// Dist gives the built files: manifest.json and assets/.
func Dist() fs.FS { return sub(dist, "dist") }

// Templates gives the page templates: layout/, parts/, pages/, app/, console/.
func Templates() fs.FS { return sub(templates, "templates") }

func sub(f embed.FS, dir string) fs.FS {
	s, err := fs.Sub(f, dir)
	if err != nil {
		panic(err) // the directory is named in the embed line above
	}
	return s
}
