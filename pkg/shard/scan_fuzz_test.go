package shard

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzScanOutside is the other half of FuzzScan: what the scanner accepts though encoding/json refuses it must be wrong only inside
// of a value, where the scanner does not look. With the insides taken out, encoding/json accepts the message too, and finds the same.
func FuzzScanOutside(f *testing.F) {
	for _, s := range []string{
		`{"t":"READY","s":1,"op":0,"d":{"a":[1,"}"]}}`, `{"op":0 "d":1}`, `{"op":0,,"d":1}`, `{op:0}`, `{"op":0,"d":[}]}`, `{"op":0,"d":{]]}}`,
		`{"op":0,"d":{"a":01}}`, `{"op":0,"d":"\x"}`, "{\"op\":0,\"d\":\"\x01\"}", `{"op":0,"d":[1,]}`, `{"op":0,"\x":1}`, "{\"op\":0,\"\x01\":1}",
		`{"op":0,"d":[[1}}` + `}`, `{"op":0}]`, `[{"op":0}]`, `{"op":0,"d":1}x`, "\ufeff" + `{"op":0}`, `{"op":0,"d":-}`, `{"op":0,"d":tru}`,
		`{"op":9223372036854775807,"s":-9223372036854775808}`, `{"s":1e3,"op":0}`, `{"op":-0}`, `{"op":+1}`, `{"op":00}`, `{"op":0,"op":"x","op":1}`,
		`{"t":"\u0041\ud83d\ude00","op":0}`, `{"t":"\ud800x","op":0}`, `{"OP":1,"op":0}`, `{"d":{"d":{"op":7}},"op":0}`, "{\"op\":0}\x00",
		`{"op":0,"d":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, `{"op":0,"d":` + strings.Repeat(`{"a":`, 5000) + `1` + strings.Repeat("}", 5000) + `}`,
		`{"op":0,"d":` + strings.Repeat("9", 5000) + `}`, `{"op":0,"s":` + strings.Repeat("0", 5000) + `}`, `{"op":0,"d":"` + strings.Repeat(`\`, 999) + `"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		got, err := scan(msg)
		if err != nil {
			return
		}
		outside := hollowOut(msg)
		want, ok := reference(outside)
		if !ok {
			t.Fatalf("%q: accepted, and encoding/json refuses even %q", msg, outside)
		}
		if got.op != want.op || got.seq != want.seq || (got.typ == nil) != (want.typ == nil) || (got.data == nil) != (want.data == nil) {
			t.Fatalf("%q: got %+v, encoding/json finds %+v in %q", msg, got, want, outside)
		}
		if want.data != nil && !bytes.Equal(hollow(got.data, 1, ':'), want.data) {
			t.Fatalf("%q: d is %q, which is not the %q of %q", msg, got.data, want.data, outside)
		}
	})
}

// hollowOut empties the strings, objects and arrays that are values of an object, byte by byte.
func hollowOut(msg []byte) []byte { return hollow(msg, 0, 0) }

// hollow does so from a depth on; before is the byte of structure that came before.
func hollow(text []byte, depth int, before byte) (out []byte) {
	inString, escaped := false, false
	for _, c := range text {
		isKey := depth == 1 && before != ':'
		switch {
		case inString && isKey, depth <= 1 && !inString && strings.IndexByte(`"{}[]`, c) < 0:
			out = append(out, c)
		}
		switch {
		case escaped:
			escaped = false
		case inString && c == '\\':
			escaped = true
		case c == '"':
			if inString = !inString; depth == 1 && (inString || !isKey) {
				out = append(out, '"')
			}
		case inString:
		case c == '{' || c == '[':
			if depth == 1 {
				out = append(out, map[byte]string{'{': "{}", '[': "[]"}[c]...)
			} else if depth == 0 {
				out = append(out, c)
			}
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				out = append(out, c)
			}
		case depth == 1 && (c == ':' || c == ','):
			before = c
		}
	}
	return out
}

func TestHollowOut(t *testing.T) {
	for text, want := range map[string]string{
		`{"op":0,"t":"a\"b","d":{"x":[1,"}"]}, "e\"" : [ [] ] ,"f":-1}`: `{"op":0,"t":"","d":{}, "e\"" : [] ,"f":-1}`,
		`{"d":[1}}`: `{"d":[]}`,
		`{}`:        `{}`,
	} {
		if got := string(hollowOut([]byte(text))); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
	}
}
