package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
)

// errFrame is what is said about a message that is not a gateway frame. It does not quote it: frames carry secrets.
var errFrame = errors.New("not a gateway frame")

// frame is a gateway message taken apart, not copied: its slices point into the message.
type frame struct {
	op   int
	seq  int64  // s; 0 when null or absent
	typ  []byte // t without quotes; nil when null or absent
	data []byte // d, exactly as sent; nil when absent
}

// scan takes a message {"op":…,"s":…,"t":…,"d":…} apart, with its members in any order and others among them
// ignored. It accepts what encoding/json accepts into such a struct (but names the members exactly, and wants op),
// and gives the same values, without an allocation unless a key or t is escaped. Inside d it checks only that quotes
// and brackets are closed.
func scan(msg []byte) (frame, error) {
	if f, ok := scanUsual(msg); ok {
		return f, nil
	}
	return scanAny(msg)
}

// scanUsual knows the one form Discord sends, {"t":…,"s":…,"op":…,"d":…} without white space. ok is false for all
// else, right or wrong.
func scanUsual(msg []byte) (f frame, ok bool) {
	rest, ok := bytes.CutPrefix(msg, []byte(`{"t":`))
	if !ok {
		return frame{}, false
	}
	if len(rest) > 0 && rest[0] == '"' {
		end := bytes.IndexByte(rest[1:], '"')
		if end < 0 || !plain(rest[1:1+end]) {
			return frame{}, false
		}
		f.typ, rest = rest[1:1+end], rest[end+2:]
	} else if rest, ok = bytes.CutPrefix(rest, []byte("null")); !ok {
		return frame{}, false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"s":`)); !ok {
		return frame{}, false
	}
	if after, null := bytes.CutPrefix(rest, []byte("null")); null {
		rest = after
	} else if f.seq, rest, ok = digits(rest); !ok {
		return frame{}, false
	}
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"op":`)); !ok {
		return frame{}, false
	}
	op, rest, ok := digits(rest)
	if !ok {
		return frame{}, false
	}
	f.op = int(op)
	if rest, ok = bytes.CutPrefix(rest, []byte(`,"d":`)); !ok {
		return frame{}, false
	}
	// d is measured rather than taken to be the rest: should Discord ever add a member after it, nothing of that may
	// slip into what is stored.
	end := skipValue(rest, 0)
	if end < 0 || end != len(rest)-1 || rest[end] != '}' {
		return frame{}, false
	}
	f.data = rest[:end]
	return f, true
}

// digits reads a non-negative integer of at most 15 digits, without leading zeros, off the front of b.
func digits(b []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(b) && i < 16 && b[i]-'0' <= 9 {
		n = n*10 + int64(b[i]-'0')
		i++
	}
	if i == 0 || i > 15 || i > 1 && b[0] == '0' {
		return 0, nil, false
	}
	return n, b[i:], true
}

func scanAny(msg []byte) (f frame, err error) {
	hasOp := false
	members := object{b: msg}
	for members.next() {
		value := members.value()
		isNull := string(value) == "null"
		switch string(members.key) {
		case "op":
			var op int64
			if hasOp = !isNull; hasOp {
				op, err = integer(value)
			}
			f.op = int(op)
		case "s":
			if f.seq = 0; !isNull {
				f.seq, err = integer(value)
			}
		case "t":
			if f.typ = nil; !isNull {
				f.typ, err = text(value)
			}
		case "d":
			f.data = value
		}
		if err != nil {
			return frame{}, err
		}
	}
	if members.bad || !hasOp {
		return frame{}, errFrame
	}
	return f, nil
}

// integer reads a JSON number that is an integer.
func integer(value []byte) (int64, error) {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, errFrame // the value is a number in JSON's form or no number at all, so ParseInt is not too lenient
	}
	return n, nil
}

// text reads a JSON string.
func text(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, errFrame
	}
	if inner := value[1 : len(value)-1]; plain(inner) {
		return inner, nil
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return nil, errFrame
	}
	return []byte(s), nil
}

// plain says whether the inside of a JSON string stands for itself.
func plain(s []byte) bool {
	for _, c := range s {
		if c < ' ' || c == '\\' || c >= 0x80 {
			return false
		}
	}
	return true
}
