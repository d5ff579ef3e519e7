//go:build !linux

package main

import "os/exec"

// runLowly runs a command; there is no common way to a lower priority here.
func runLowly(cmd *exec.Cmd) error { return cmd.Run() }
