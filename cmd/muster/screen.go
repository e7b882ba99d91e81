package main

import (
	"os"
	"strings"
)

// screen is where people read.
type screen struct {
	colours bool
	width   int // 0: as wide as need be
}

func screenOf(f *os.File) screen { return screen{colours: colourful(f), width: widthOf(f)} }

// paint gives text a colour, by the parameters of its escape sequence; "" is none.
func (s screen) paint(colour, text string) string {
	if !s.colours || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// wrap breaks text between words into lines that fit beside an indent, which is put before all but the first.
func (s screen) wrap(indent int, text string) string {
	if s.width == 0 {
		return text
	}
	var out strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		n := len([]rune(word))
		switch {
		case i == 0:
		case column+1+n > s.width:
			out.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			out.WriteByte(' ')
			column++
		}
		out.WriteString(word)
		column += n
	}
	return out.String()
}
