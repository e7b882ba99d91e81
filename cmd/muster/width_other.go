//go:build !linux && !darwin

package main

import "os"

// widthOf is not known here.
func widthOf(*os.File) int { return 0 }
