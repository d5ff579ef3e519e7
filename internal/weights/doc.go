// Package weights reads checkpoints, maps their names onto ours, and writes
// and reads model files.
//
//	.pth zip, legacy ─┐
//	.pkl ─────────────┤
//	.caffemodel ──────┼─ Open ─▶ Checkpoint ─ Match ─▶ Report ─ Save ─▶ model file
//	.safetensors ─────┘          keys, shapes          our names         (safetensors)
//
//	model file ─ Open ─▶ Checkpoint: Config, Fit, Param (a device.Params)
//
// Opening a file reads only what describes the arrays; their elements are read
// when they are asked for, one array at a time. A pickle is never executed: a
// small machine of our own follows its opcodes, knows the few globals that
// tensors need, and refuses every other.
//
// How families of checkpoints name and arrange their arrays, and what their
// networks do differently, is data: see families in families.go.
//
// Files come from strangers. Parsing one may allocate its size plus 1 MiB and
// no more, whatever it claims: everything that is built while a file is parsed
// is taken from a [budget], and every length is held against what the file has
// left before it is believed.
package weights
