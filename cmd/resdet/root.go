package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, as the help says.
const (
	exitOK          = 0
	exitFailed      = 1   // something failed; what could be done was done
	exitUsage       = 2   // the command line was wrong
	exitInterrupted = 130 // SIGINT
	exitTerminated  = 143 // SIGTERM
)

// streams are what a command reads and writes: results to out, progress and
// errors to err.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// run executes the command line and returns the exit code.
func run(args []string, in io.Reader, out, errw io.Writer) int {
	ctx, stop := withSignals(context.Background())
	defer stop()
	root := newRoot(streams{in, out, errw})
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	err := root.ExecuteContext(ctx)
	return report(errw, err, context.Cause(ctx))
}

func newRoot(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:     "resdet",
		Version: version(),
		Short:   "Transfer-learning object detection: Faster R-CNN on ResNet or VGG, fast on a CPU",
		Long: `resdet finds objects in images with Faster R-CNN on a ResNet-101 or VGG-16 backbone.

Progress and logs go to stderr, results to stdout.
Exit status: 0 all done, 1 something failed, 2 wrong command line, 130 interrupted, 143 terminated.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newDetectCommand(s),
		newVideoCommand(s),
		newServeCommand(s),
		newEvalCommand(s),
		newCompareCommand(s),
		newTrainCommand(s),
		newDataCommand(s),
		newQuantizeCommand(s),
		newBenchCommand(s),
		newWeightsCommand(s),
	)
	return root
}

// version is what go build recorded: the release or commit, and the Go that
// built it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return fmt.Sprintf("%s %s/%s %s", info.Main.Version, runtime.GOOS, runtime.GOARCH, info.GoVersion)
}

// usageError marks a wrong command line: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// usageArgs turns cobra's complaint about arguments into a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			if cmd.HasSubCommands() {
				cmd.SuggestionsMinimumDistance = 2
				if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
					err = hintError{err, fmt.Sprintf("did you mean %s?", strings.Join(near, " or "))}
				}
			}
			return usageError{err}
		}
		return nil
	}
}

// errReported ends a command that has already printed what failed.
var errReported = errors.New("failed")

// hinter is an error that knows what the user can do.
type hinter interface{ Hint() string }

// hintError adds a hint line to an error.
type hintError struct {
	error
	hint string
}

func (e hintError) Unwrap() error { return e.error }
func (e hintError) Hint() string  { return e.hint }

// printError writes "resdet: error: …" and the hint, if there is one.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "resdet: error: %s\n", strings.TrimPrefix(err.Error(), "resdet: ")) // the root package's errors
	var h hinter
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(w, "resdet: hint: %s\n", h.Hint())
	}
}

// report prints err unless that was done and returns the exit code.
func report(w io.Writer, err, cause error) int {
	var sig signalError
	if errors.As(cause, &sig) {
		fmt.Fprintf(w, "resdet: %v\n", sig)
		if sig.Signal == syscall.SIGTERM {
			return exitTerminated
		}
		return exitInterrupted
	}
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		printError(w, err)
		return exitUsage
	}
	printError(w, err)
	return exitFailed
}

// signalError is the cause of a context that a signal ended.
type signalError struct{ os.Signal }

func (e signalError) Error() string {
	if e.Signal == syscall.SIGTERM {
		return "terminated"
	}
	return "interrupted"
}

// withSignals returns a context that ends with a signalError at the first
// SIGINT or SIGTERM; a second one kills the process as usual.
func withSignals(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-ch:
			signal.Stop(ch)
			cancel(signalError{s})
		case <-done:
		}
	}()
	return ctx, func() { signal.Stop(ch); close(done); cancel(nil) }
}
