package stream

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// ID is the id of an entry: the epoch of the session that brought it and
// Discord's sequence number within that session. Redis orders entries exactly
// as Compare does, and refuses an id that is not larger than the stream's last.
//
// The zero ID is no entry's: it is the end of a stream that was never written.
type ID struct {
	Epoch uint64
	Seq   int64
}

// String returns the id as Redis writes it, "<epoch>-<seq>".
func (id ID) String() string { return string(id.append(nil)) }

// IsZero reports whether id is the end of a stream that was never written.
func (id ID) IsZero() bool { return id == ID{} }

// Compare returns -1, 0 or 1 as id is before, the same as, or after other.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Epoch, other.Epoch), cmp.Compare(id.Seq, other.Seq))
}

// MarshalText makes ids readable in JSON.
func (id ID) MarshalText() ([]byte, error) { return id.append(nil), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

func (id ID) append(b []byte) []byte {
	b = strconv.AppendUint(b, id.Epoch, 10)
	b = append(b, '-')
	return strconv.AppendInt(b, id.Seq, 10)
}

// ParseID reads an id in the one form Redis gives it: two decimal numbers
// without sign or leading zeros. Redis allows the second to use all 64 bits;
// Discord's sequence numbers are far from that, so what does not fit an int64
// is not one of ours and is an error.
func ParseID(s string) (ID, error) {
	epoch, seq, ok := strings.Cut(s, "-")
	if !ok {
		return ID{}, fmt.Errorf("entry id %q: want <epoch>-<seq>", s)
	}
	e, errEpoch := strconv.ParseUint(epoch, 10, 64)
	n, errSeq := strconv.ParseUint(seq, 10, 63)
	id := ID{Epoch: e, Seq: int64(n)}
	if errEpoch != nil || errSeq != nil || id.String() != s {
		return ID{}, fmt.Errorf("entry id %q: want two plain decimal numbers", s)
	}
	return id, nil
}
