//go:build cgo && linux && amd64 && !noonednn && leakcheck

package onednn

import "runtime/pprof"

// Profile holds the stack that made each native object that is still open:
// build with -tags leakcheck and write it where a leak shows.
var Profile = pprof.NewProfile("resdet.native")

func track(h any)   { Profile.Add(h, 2) }
func untrack(h any) { Profile.Remove(h) }
