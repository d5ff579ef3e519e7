// Package weights reads checkpoints, maps their names onto ours, and writes
// and reads model files.
//
//	.pth zip ──┐
//	.pth legacy ─┼─ Open ─▶ Checkpoint ─ Match ─▶ Import ─ Save ─▶ model file ─ Open ─▶ device.Params
//	.safetensors ┘          keys, shapes    report, names           (safetensors)
//
// Opening a file reads only what describes the arrays; their elements are read
// when they are asked for, one array at a time. A pickle is never executed: a
// small machine of our own follows its opcodes, knows the few globals that
// tensors need, and refuses every other.
//
// Files come from strangers. Parsing one may allocate its size plus 1 MiB and
// no more, whatever it claims: everything that is built while a file is parsed
// is taken from a [budget], and every length is held against what the file has
// left before it is believed.
package weights
