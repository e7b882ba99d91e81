package shard

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"
)

func TestScan(t *testing.T) {
	for _, c := range []struct {
		name, msg string
		want      frame // op -1: refused
	}{
		{"as discord sends it", `{"t":"READY","s":1,"op":0,"d":{"a":[1,"}"]}}`,
			frame{0, 1, []byte("READY"), []byte(`{"a":[1,"}"]}`)}},
		{"no dispatch", `{"t":null,"s":null,"op":11,"d":null}`, frame{11, 0, nil, []byte("null")}},
		{"another order", `{"op":0,"d":{"x":"\\"},"s":7,"t":"X"}`, frame{0, 7, []byte("X"), []byte(`{"x":"\\"}`)}},
		{"white space", " { \"op\" : 10 ,\t\"d\" : { } }\r\n", frame{10, 0, nil, []byte(`{ }`)}},
		{"a member after d", `{"t":null,"s":null,"op":9,"d":{"a":1},"x":{"b":2}}`, frame{9, 0, nil, []byte(`{"a":1}`)}},
		{"no d", `{"op":11}`, frame{op: 11}},
		{"escaped key and type", `{"\u006fp":0,"t":"\u0041","s":-0}`, frame{0, 0, []byte("A"), nil}},
		{"the last of equal keys counts", `{"op":1,"op":2,"s":3,"s":null}`, frame{op: 2}},
		{"quotes and backslashes", `{"t":"X","s":1,"op":0,"d":"a\\\"b\\"}`, frame{0, 1, []byte("X"), []byte(`"a\\\"b\\"`)}},
		{"nothing", ``, frame{op: -1}},
		{"no object", `[]`, frame{op: -1}},
		{"no op", `{"d":1}`, frame{op: -1}},
		{"null op", `{"op":null}`, frame{op: -1}},
		{"op is no integer", `{"op":1.0}`, frame{op: -1}},
		{"op too large", `{"op":99999999999999999999}`, frame{op: -1}},
		{"op is a string", `{"op":"0"}`, frame{op: -1}},
		{"leading zero", `{"t":"X","s":01,"op":0,"d":1}`, frame{op: -1}},
		{"t is a number", `{"t":1,"op":0}`, frame{op: -1}},
		{"more behind it", `{"op":0}{"op":0}`, frame{op: -1}},
		{"cut off", `{"t":"X","s":1,"op":0,"d":{"a":1}`, frame{op: -1}},
		{"cut off in a string", `{"t":"X","s":1,"op":0,"d":"a\"}`, frame{op: -1}},
		{"comma at the end", `{"op":0,}`, frame{op: -1}},
		{"no colon", `{"op" 0}`, frame{op: -1}},
		{"misspelt literal", `{"op":0,"d":nul}`, frame{op: -1}},
		{"control character in t", "{\"t\":\"\x01\",\"s\":1,\"op\":0,\"d\":1}", frame{op: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := scan([]byte(c.msg))
			if c.want.op < 0 {
				if err == nil {
					t.Fatalf("accepted: %+v", got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.op != c.want.op || got.seq != c.want.seq || !equal(got.typ, c.want.typ) || !equal(got.data, c.want.data) {
				t.Fatalf("got %d %d %q %q", got.op, got.seq, got.typ, got.data)
			}
		})
	}
}

// equal tells nil and empty apart.
func equal(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// TestScanUsualIsTaken makes sure that Discord's own order takes the short way, and that it costs no memory.
func TestScanUsualIsTaken(t *testing.T) {
	for _, msg := range sampleMessages(100) {
		if _, ok := scanUsual(msg); !ok {
			t.Fatalf("not taken: %s", msg)
		}
	}
	msg := sampleMessages(1)[0]
	if n := testing.AllocsPerRun(100, func() { _, _ = scan(msg) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// reference does what scan does, with encoding/json: ok is false where that refuses the message.
func reference(msg []byte) (f frame, ok bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(msg, &members) != nil || members == nil {
		return frame{}, false
	}
	var op, seq *int64
	var typ *string
	for key, into := range map[string]any{"op": &op, "s": &seq, "t": &typ} {
		if raw, has := members[key]; has && json.Unmarshal(raw, into) != nil {
			return frame{}, false
		}
	}
	if op == nil || strconv.IntSize == 32 {
		return frame{}, false
	}
	f.op = int(*op)
	if seq != nil {
		f.seq = *seq
	}
	if typ != nil {
		f.typ = append([]byte{}, *typ...)
	}
	f.data = members["d"]
	return f, true
}

// FuzzScan holds the scanner to encoding/json: what that accepts, with equal values. What it refuses may be accepted
// only where it lies inside a value that is not looked into.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`{"t":"READY","s":1,"op":0,"d":{"a":[1,"}"]}}`, `{"t":null,"s":null,"op":11,"d":null}`, `{"op":9,"d":false}`,
		`{"t":null,"s":null,"op":9,"d":{"a":1},"x":{"b":2}}`, `{"op":10,"d":{"heartbeat_interval":41250}}`, `{}`, `{"op":0`,
		`{"\u006fp":0,"t":"\ud800"}`, `{"op":1,"op":null,"d":"\\\""}`, ` {"op":-1 , "s" :-0}`, "{\"t\":\"\xff\",\"op\":0}", `null`,
		`{"t":"X","s":1,"op":0,"d":1e5}`, `{"t":"X","s":1,"op":0,"d":[}]}`, `{"a":{"b":[{}]},"op":2}`,
		`{"t":"X","s":999999999999999999,"op":0,"d":1}`, `{"op":0,"d":1,"d":2}`, `{"op":1,"s":9223372036854775808}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		got, err := scan(msg)
		want, ok := reference(msg)
		if ok {
			if err != nil {
				t.Fatalf("%q: refused, encoding/json accepts it", msg)
			}
			if got.op != want.op || got.seq != want.seq || !bytes.Equal(got.typ, want.typ) || !equal(got.data, want.data) {
				t.Fatalf("%q: got %+v, encoding/json %+v", msg, got, want)
			}
			return
		}
		if err == nil && json.Valid(msg) {
			t.Fatalf("%q: accepted, encoding/json refuses its types", msg)
		}
	})
}

func TestReadReady(t *testing.T) {
	for _, c := range []struct{ name, d, id, url, blanked string }{
		{"usual", `{"v":10, "session_id":"abc","resume_gateway_url":"wss://x", "é":1}`, "abc", "wss://x",
			`{"v":10, "session_id":"","resume_gateway_url":"wss://x", "é":1}`},
		{"escaped", `{"session_id":"\u0061"}`, "a", "", `{"session_id":""}`},
		{"twice", `{"session_id":"a","session_id":"b"}`, "b", "", `{"session_id":"","session_id":""}`},
		{"nested ones are others", `{"x":{"session_id":"y"},"session_id":"a"}`, "a", "", `{"x":{"session_id":"y"},"session_id":""}`},
		{"none", `{"v":10}`, "", "", ""},
		{"empty", `{"session_id":""}`, "", "", ""},
		{"number", `{"session_id":1}`, "", "", ""},
		{"bad url", `{"session_id":"a","resume_gateway_url":1}`, "", "", ""},
		{"no object", `null`, "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := readReady([]byte(c.d))
			if (err != nil) != (c.id == "") {
				t.Fatalf("error %v", err)
			}
			if got.sessionID != c.id || got.resumeURL != c.url || string(got.blanked) != c.blanked {
				t.Fatalf("got %q %q %q", got.sessionID, got.resumeURL, got.blanked)
			}
		})
	}
}

// FuzzReadReady: it never panics, and the blanked data is the same JSON but for the session id.
func FuzzReadReady(f *testing.F) {
	for _, s := range []string{`{"session_id":"abc","resume_gateway_url":"wss://x"}`, `{"session_id":"a","session_id":"b"}`, `{`, `{}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, d []byte) {
		got, err := readReady(d)
		if err != nil || !json.Valid(d) {
			return
		}
		var before, after map[string]any
		if json.Unmarshal(d, &before) != nil || json.Unmarshal(got.blanked, &after) != nil {
			t.Fatalf("%q became %q", d, got.blanked)
		}
		if after["session_id"] != "" {
			t.Fatalf("%q kept the session id: %q", d, got.blanked)
		}
		before["session_id"] = ""
		a, errA := json.Marshal(before)
		b, errB := json.Marshal(after)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%q became %q", d, got.blanked)
		}
	})
}

func FuzzHello(f *testing.F) {
	for _, s := range []string{`{"heartbeat_interval":41250}`, `{"heartbeat_interval":-1}`, `{"heartbeat_interval":1e300}`, `{}`, `null`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, d []byte) {
		if interval, err := helloInterval(d); err == nil && (interval <= 0 || interval > maxHeartbeatInterval) {
			t.Fatalf("%q: interval %s", d, interval)
		}
	})
}
