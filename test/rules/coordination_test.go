package rules

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCoordinationFailures: in docs/coordination.md all 42 failures are there in order, and each names tests that show what happens, all of
// which exist, or says why there is none.
func TestCoordinationFailures(t *testing.T) {
	text, err := os.ReadFile("../../docs/coordination.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| # | failure | what happens | shown by |\n")
	if !found {
		t.Fatal("the table of failures is not there")
	}
	tests := map[string]map[string]bool{}
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| ") {
			if strings.HasPrefix(line, "|") {
				continue
			}
			break
		}
		rows++
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 4 || cells[0] != strconv.Itoa(rows) {
			t.Errorf("not row %d, or not of four cells: %s", rows, line)
			continue
		}
		named := testName.FindAllStringSubmatch(cells[3], -1)
		if len(named) == 0 && !strings.HasPrefix(cells[3], "not tested, because ") {
			t.Errorf("no test shows it, and no reason is given: %s", line)
		}
		for _, n := range named {
			dir, known := packageOf[n[1]]
			if known && tests[dir] == nil {
				tests[dir] = testsIn(t, filepath.Join("../..", dir))
			}
			if !tests[dir][n[2]] {
				t.Errorf("%s has no %s", n[1], n[2])
			}
		}
	}
	if rows != 42 {
		t.Errorf("%d failures, want 42", rows)
	}
}
