// Command own opens its own model: the built-in one must not be linked in.
package main

import (
	"fmt"
	"os"

	"resdet"
)

func main() {
	d, err := resdet.Open(os.Args[1], resdet.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer d.Close()
	fmt.Println(d.Config().Arch)
}
