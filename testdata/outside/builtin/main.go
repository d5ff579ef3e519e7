// Command builtin opens the default model, which is linked in.
package main

import (
	"fmt"
	"os"

	"resdet"
)

func main() {
	d, err := resdet.OpenDefault(resdet.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer d.Close()
	fmt.Println(d.Config().Arch)
}
