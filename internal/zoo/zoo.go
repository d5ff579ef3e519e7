// Package zoo holds the default model. Only OpenDefault and DefaultFile of
// package resdet refer to it, so that the linker leaves it out of programs that
// bring their own.
package zoo

import _ "embed"

// Default is a model file: see NOTICE for its origin. It is a string, so that
// it lies in the binary's read-only pages and is read in place.
//
//go:embed default.safetensors
var Default string
