package train

import "fmt"

// DivergedError says that training went wrong beyond repair.
type DivergedError struct {
	Step       int
	Images     []string // of the step's batch
	Term       string   // the loss, or the gradient's parameter
	Value      float64
	Checkpoint string // the last good one; "" if there is none
	Saved      int    // its step
}

func (e *DivergedError) Error() string {
	at := "there is no checkpoint yet"
	if e.Checkpoint != "" {
		at = fmt.Sprintf("the last good checkpoint is that of step %d, %s", e.Saved, e.Checkpoint)
	}
	return fmt.Sprintf("train: step %d: %s is %g on %q; %s", e.Step, e.Term, e.Value, e.Images, at)
}

// Hint says what to do.
func (e *DivergedError) Hint() string {
	return "lower schedule.rate (a tenth of it is a good try), lengthen schedule.warmup, or set solver.clip; resdet data check tells whether boxes are to blame"
}

// maxLoss is beyond what any network gives that can still be trained: new ones
// begin below 10.
const maxLoss = 1e4
