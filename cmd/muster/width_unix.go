//go:build linux || darwin

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// widthOf is how many columns the terminal f has, 0 if it is none.
func widthOf(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}
