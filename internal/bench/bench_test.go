//go:build unix

package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

func TestCorpus(t *testing.T) {
	total := 0
	for i, d := range newCorpus() {
		if !json.Valid(d.data) {
			t.Fatalf("event %d, %s, is no JSON: %s", i, d.kind, d.data)
		}
		total += len(d.data)
	}
	if mean := total / corpusSize; mean < 700 || mean > 850 {
		t.Errorf("the mean is %d bytes, want about 770", mean)
	}
}

// A client that gets the beginning of a baked connection can read all messages that it got.
func TestBakedPrefix(t *testing.T) {
	const events, part = 50, 20
	corpus := newCorpus()
	for transport, open := range map[string]func(io.Reader) (io.Reader, error){
		zlibStream: func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) },
		zstdStream: func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r) },
	} {
		b, err := bake(corpus, transport, events)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := open(bytes.NewReader(payloads(b.messages(0, part))))
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(reader) // ends in the middle of a stream, as an error
		want := hello + ready
		for i := 2; i < part; i++ {
			want += fmt.Sprintf(`{"t":"%s","s":%d,"op":0,"d":%s}`, corpus[i-2].kind, i, corpus[i-2].data)
		}
		if string(got) != want {
			t.Errorf("%s: got %d bytes, want %d", transport, len(got), len(want))
		}
	}
}

// payloads takes frames of less than 64 KiB apart.
func payloads(frames []byte) (all []byte) {
	for len(frames) > 0 {
		size, head := int(frames[1]), 2
		if size == 126 {
			size, head = int(frames[2])<<8|int(frames[3]), 4
		}
		all = append(all, frames[head:head+size]...)
		frames = frames[head+size:]
	}
	return all
}

func TestSpread(t *testing.T) {
	for want, values := range map[string][]float64{
		"2.0":           {2},
		"2.5 [1.0–4.0]": {4, 1, 2, 3},
		"3.0 [1.0–5.0]": {5, 3, 1},
	} {
		if got := spread("%.1f", values); got != want {
			t.Errorf("spread of %v is %s, want %s", values, got, want)
		}
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-shards", "1,x"}, {"-transport", "none"}, {"-clients", "nobody"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	o, err := parse([]string{"-shards", "4", "-transport", "zlib", "-clients", "muster,ideal", "-events", "1000000"})
	if err != nil {
		t.Fatal(err)
	}
	runs := o.saturated(1)
	if len(runs) != 2 || runs[0].Client != "ideal" || runs[0].Events != 250_000 || runs[0].Transport != zlibStream {
		t.Errorf("runs: %+v", runs)
	}
}
