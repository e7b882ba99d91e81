//go:build unix

package bench

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strconv"
)

// runRaw writes the same entries as the ideal with neither a gateway nor a Redis library, in commands that are made beforehand: what is
// left is the limit of Redis.
func runRaw(ctx context.Context, s spec, m *meter) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.Redis)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	commands := rawCommands(newCorpus(), s)
	m.event(2)
	failed := make(chan error, 1)
	go func() {
		for _, c := range commands {
			if _, err := conn.Write(c); err != nil {
				failed <- fmt.Errorf("write: %w", err)
				_ = conn.Close()
				return
			}
		}
	}()
	replies := bufio.NewReaderSize(conn, 64<<10)
	for range s.entries() {
		if err := skipReply(replies); err != nil {
			select {
			case err = <-failed:
			default:
			}
			return err
		}
	}
	return nil
}

// rawCommands are all commands of a run, some in each piece.
func rawCommands(corpus []dispatch, s spec) (pieces [][]byte) {
	const size = 256 << 10
	var piece []byte
	for i := range s.Events + 1 {
		d := corpus[i%len(corpus)]
		for shard := range s.Shards {
			piece = appendCommand(piece, "XADD", key(shard), "MAXLEN", "~", strconv.Itoa(maxLen), "*", "t", d.kind, "s", strconv.Itoa(i+1), "d")
			piece = appendBulk(piece, d.data)
			if len(piece) >= size {
				pieces, piece = append(pieces, piece), nil
			}
		}
	}
	return append(pieces, piece)
}

// appendCommand begins a command of one more argument than is given.
func appendCommand(dst []byte, args ...string) []byte {
	dst = fmt.Appendf(dst, "*%d\r\n", len(args)+1)
	for _, arg := range args {
		dst = appendBulk(dst, arg)
	}
	return dst
}

func appendBulk[T string | []byte](dst []byte, arg T) []byte {
	dst = append(strconv.AppendInt(append(dst, '$'), int64(len(arg)), 10), '\r', '\n')
	return append(append(dst, arg...), '\r', '\n')
}

// skipReply reads the id that XADD answers with.
func skipReply(r *bufio.Reader) error {
	line, err := r.ReadSlice('\n')
	if err == nil && line[0] != '$' {
		return fmt.Errorf("xadd: %s", line)
	}
	if err == nil {
		_, err = r.ReadSlice('\n')
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}
