package shard

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// pieces is a connection on which bytes come in given pieces, each at most one Read, the last with the end or before it.
type pieces struct {
	net.Conn
	left    [][]byte
	end     error
	endWith bool
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, p.end
	}
	n := copy(b, p.left[0])
	if p.left[0] = p.left[0][n:]; len(p.left[0]) == 0 {
		p.left = p.left[1:]
	}
	if p.endWith && len(p.left) == 0 {
		return n, p.end
	}
	return n, nil
}

// TestBurstConn: whatever the sizes of what comes and of what is asked for, all of it is read, then the connection's end; and once all
// that came was read, it holds a buffer only if the last read was full to the brim.
func TestBurstConn(t *testing.T) {
	size := rapid.OneOf(rapid.IntRange(1, 600), rapid.SampledFrom([]int{1, 4095, 4096, 4097, burstSize - 1, burstSize, burstSize + 1, 3 * burstSize}))
	end := errors.New("end")
	rapid.Check(t, func(t *rapid.T) {
		source := rand.NewChaCha8([32]byte{1})
		var all, got []byte
		from := &pieces{end: end, endWith: rapid.Bool().Draw(t, "end with the last")}
		for _, n := range rapid.SliceOf(size).Draw(t, "pieces") {
			piece := make([]byte, n)
			_, _ = source.Read(piece)
			all = append(all, piece...)
			from.left = append(from.left, piece)
		}
		c := &burstConn{Conn: from}
		for {
			p := make([]byte, size.Draw(t, "asked"))
			n, err := c.Read(p)
			got = append(got, p[:n]...)
			if err == nil && n == 0 {
				t.Fatal("an empty read")
			}
			if len(from.left) == 0 && len(c.unread) == 0 && c.buf != nil && !c.more {
				t.Fatal("a buffer is held though nothing is to come")
			}
			if err != nil {
				if !errors.Is(err, end) {
					t.Fatal(err)
				}
				break
			}
		}
		if !bytes.Equal(got, all) || c.buf != nil {
			t.Fatalf("read %d bytes of %d; a buffer is held: %v", len(got), len(all), c.buf != nil)
		}
	})
}

// TestBurstConnsShare: many connections at once do not mix up what they read.
func TestBurstConnsShare(t *testing.T) {
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			want := bytes.Repeat([]byte{byte(i)}, 5*burstSize+i)
			got, err := io.ReadAll(&burstConn{Conn: &pieces{left: [][]byte{want}, end: io.EOF}})
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("connection %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	group.Wait()
}
