package video

import (
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of a stage, a decoder or a sink: a bug, of which a
// server that runs many pipelines must not end.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("video: a stage panicked: %v", e.Value) }

// guarded runs do and makes an error of its panic. Whoever begins a goroutine
// of a pipeline needs it: a panic there cannot be recovered anywhere else.
func guarded(do func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return do()
}
