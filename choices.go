package resdet

import "resdet/internal/device/cpu"

// Choices say by which algorithm layers are computed where trials on this
// machine found a faster one than the rule's; see [ReadChoices].
type Choices = cpu.Choices

// ReadChoices returns what `resdet bench --tune` kept in a folder (of the
// command: "trials" in its cache folder) for this machine and opt's threads,
// to be put into opt. Without such trials there are none. A damaged file, or
// one of another machine, is an error that names it; the rule does as well.
func ReadChoices(dir string, opt Options) (Choices, error) {
	return cpu.ReadChoices(dir, opt.Machine())
}

// Machine is what trials with these options hold for.
func (o Options) Machine() cpu.Machine { return cpu.ThisMachine(o.threadsEach()) }

// threadsEach is how many threads a worker has.
func (o Options) threadsEach() int { return max(1, o.threads()/max(1, o.Workers)) }
