package page_test

import (
	"fmt"
	"io/fs"

	"resdet/web/page"
)

func Example() {
	icons, err := fs.Glob(page.FS, "*.svg")
	fmt.Println(icons, err)
	// Output: [icon.svg] <nil>
}
