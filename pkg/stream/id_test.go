package stream

import (
	"math"
	"slices"
	"testing"
)

func TestParseID(t *testing.T) {
	good := map[string]ID{
		"0-0":   {},
		"1-0":   {1, 0},
		"12-34": {12, 34},
		"18446744073709551615-9223372036854775807": {math.MaxUint64, math.MaxInt64},
	}
	for s, want := range good {
		if id, err := ParseID(s); err != nil || id != want {
			t.Errorf("%s is %v, error %v", s, id, err)
		}
	}
	for _, s := range []string{
		"", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1-+2", "01-2", "1-02", " 1-2", "1-2\n", "a-b", "*", "1-*", "$",
		"0x1-2", "1_0-2", "18446744073709551616-0", "1-9223372036854775808", "1-18446744073709551615",
	} {
		if id, err := ParseID(s); err == nil {
			t.Errorf("%q is read as %v", s, id)
		}
	}
}

func TestIDOrder(t *testing.T) {
	sorted := []ID{{}, {1, 0}, {1, 1}, {1, 2}, {1, 10}, {2, 0}, {2, 1}, {10, 0}}
	for i, a := range sorted {
		for j, b := range sorted {
			if got, want := a.Compare(b), sign(i-j); got != want {
				t.Errorf("%v compared to %v is %d, want %d", a, b, got, want)
			}
		}
	}
	if !slices.IsSortedFunc(sorted, ID.Compare) {
		t.Error("not sorted")
	}
}

func sign(n int) int { return min(max(n, -1), 1) }

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"1-1", "0-0", "18446744073709551615-9223372036854775807", "1-", "-", "01-1", "1-1-1", "1526919030474-55"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && id.String() != s {
			t.Errorf("%q is read as %v", s, id)
		}
		if id.Seq < 0 {
			t.Errorf("%q has a negative sequence number", s)
		}
	})
}
