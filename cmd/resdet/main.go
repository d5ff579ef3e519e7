// Command resdet detects objects in images, and brings in, measures and
// compares the models that do it. One file per command; what they do lives in
// the packages.
package main

import (
	"os"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
