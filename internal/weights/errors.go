package weights

import (
	"errors"
	"fmt"
)

var (
	// ErrFormat is wrapped by errors about files that are no checkpoint of a
	// kind that this package reads.
	ErrFormat = errors.New("not a checkpoint that can be read")
	// ErrDamaged is wrapped by errors about files that are cut off,
	// contradict themselves, or ask for more than they hold.
	ErrDamaged = errors.New("damaged file")
	// ErrRefused is wrapped by errors about pickles that name something a
	// checkpoint has no need for. Nothing of it was run.
	ErrRefused = errors.New("refused")
	// ErrIncomplete is wrapped by errors about checkpoints that do not give
	// every parameter that a network wants.
	ErrIncomplete = errors.New("checkpoint does not fit the network")
)

// GlobalError says which object a pickle asked for that is not on the list of
// what a checkpoint may name. It wraps [ErrRefused].
type GlobalError struct {
	Module, Name string
}

func (e *GlobalError) Error() string {
	return fmt.Sprintf("the pickle asks for %q, which a checkpoint of weights has no need for (nothing was run)", e.Module+"."+e.Name)
}

func (e *GlobalError) Unwrap() error { return ErrRefused }

// Hint says what can be done about it.
func (e *GlobalError) Hint() string {
	return "if you trust the file, load it where it was written and save only its weights: torch.save(model.state_dict(), FILE)"
}

// damaged returns an error that wraps ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// budget is what parsing one file may still allocate, in bytes.
type budget struct{ left, whole int64 }

// slack is what every file may cost beyond its own size. Half of the promised
// 1 MiB is kept for what is not counted: buffers, the decompressor, errors.
const slack = 512 << 10

func newBudget(size int64) *budget { return &budget{size + slack, size + slack} }

// take accounts for n bytes about to be allocated, or refuses them.
func (b *budget) take(n int64) error {
	if n < 0 || n > b.left {
		return damaged("describing its arrays takes more memory than the whole file (%d bytes)", b.whole-slack)
	}
	b.left -= n
	return nil
}
