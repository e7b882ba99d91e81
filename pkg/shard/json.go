package shard

import (
	"bytes"
	"encoding/json"
)

// object walks over the members of the JSON object that b consists of:
//
//	members := object{b: b}
//	for members.next() {
//		use(members.key, members.value())
//	}
//	if members.bad { … }
type object struct {
	b []byte

	key        []byte // the present member's key, unquoted
	start, end int    // its value is b[start:end]
	bad        bool   // b is not an object

	pos   int
	begun bool
}

func (o *object) value() []byte { return o.b[o.start:o.end] }

// next goes to the next member. It returns false at the end and when b turns out bad.
func (o *object) next() bool {
	o.pos = skipSpace(o.b, o.pos)
	switch {
	case !o.begun && o.at('{'):
		o.begun = true
		o.pos = skipSpace(o.b, o.pos+1)
		if o.at('}') {
			return o.finish()
		}
	case o.begun && o.at(','):
		o.pos = skipSpace(o.b, o.pos+1)
	case o.begun && o.at('}'):
		return o.finish()
	default:
		return o.fail()
	}
	return o.member()
}

func (o *object) member() bool {
	if !o.at('"') {
		return o.fail()
	}
	end := skipString(o.b, o.pos)
	if end < 0 {
		return o.fail()
	}
	key, err := text(o.b[o.pos:end])
	if err != nil {
		return o.fail()
	}
	o.key = key
	o.pos = skipSpace(o.b, end)
	if !o.at(':') {
		return o.fail()
	}
	o.start = skipSpace(o.b, o.pos+1)
	o.end = skipValue(o.b, o.start)
	if o.end < 0 {
		return o.fail()
	}
	o.pos = o.end
	return true
}

func (o *object) at(c byte) bool { return o.pos < len(o.b) && o.b[o.pos] == c }

func (o *object) finish() bool {
	o.bad = skipSpace(o.b, o.pos+1) != len(o.b)
	return false
}

func (o *object) fail() bool {
	o.bad = true
	return false
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipValue returns the index after the JSON value that begins at b[i], or -1 if there is none. Of objects and arrays
// it checks that strings and brackets are closed, no more.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '{', '[':
		return skipNested(b, i)
	case '"':
		return skipString(b, i)
	}
	end := i
	for end < len(b) && !ends[b[end]] {
		end++
	}
	if !json.Valid(b[i:end]) {
		return -1
	}
	return end
}

// ends are the bytes that can follow a number or a literal.
var ends = [256]bool{' ': true, '\n': true, '\r': true, '\t': true, ',': true, '}': true, ']': true}

// skipNested returns the index after the object or array that begins at b[i], or -1.
func skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// skipString returns the index after the string whose opening quote is b[i], or -1. A quote ends the string unless
// the backslashes before it are odd in number.
func skipString(b []byte, i int) int {
	begin := i + 1
	for next := begin; ; {
		quote := bytes.IndexByte(b[next:], '"')
		if quote < 0 {
			return -1
		}
		end := next + quote
		slashes := 0
		for end-slashes > begin && b[end-slashes-1] == '\\' {
			slashes++
		}
		next = end + 1
		if slashes%2 == 0 {
			return next
		}
	}
}
