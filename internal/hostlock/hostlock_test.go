//go:build linux

package hostlock

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// holdVariable makes this test binary a process that takes a lock in the directory it names, says so, and does nothing more.
const holdVariable = "HOSTLOCK_TEST_HOLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(holdVariable); dir != "" {
		l, err := Take(dir, "a")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(l.ID())
		select {}
	}
	os.Exit(m.Run())
}

func look(t *testing.T, dir string) State {
	t.Helper()
	state, err := Look(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func mustTake(t *testing.T, dir string) *Lock {
	t.Helper()
	l, err := Take(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

// The lock of a process that is killed is free, and that of one that is stopped is not.
func TestLockEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), holdVariable+"="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	id := ID(lines.Text())
	expectHeld := func(when string) {
		t.Helper()
		if state := look(t, dir); !state.Held || state.ID != id {
			t.Errorf("%s: %+v, want %s held", when, state, id)
		}
		if _, err := Take(dir, "a"); !errors.Is(err, ErrHeld) {
			t.Errorf("%s it can be taken: %v", when, err)
		}
	}
	expectHeld("while the process runs")
	if err := holder.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	expectHeld("while the process is stopped")
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // that it was killed
	before := look(t, dir)
	if before.Held || before.ID != id {
		t.Errorf("when the process is dead: %+v, want %s not held", before, id)
	}
	l := mustTake(t, dir)
	if l.ID() != id {
		t.Errorf("its successor's lock is %s, not %s", l.ID(), id)
	}
	if after := look(t, dir); !after.Held || after.Mark == before.Mark {
		t.Errorf("taken anew it is %+v, before %+v", after, before)
	}
}

// To look at a lock does not take it, and its own holder sees that it is held.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	if _, err := Look(dir, "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
	l := mustTake(t, dir)
	for range 2 {
		if state := look(t, dir); !state.Held || state.ID != l.ID() {
			t.Errorf("its holder sees %+v", state)
		}
	}
	if names, err := Names(dir); err != nil || !slices.Equal(names, []string{"a"}) {
		t.Errorf("names are %v, %v", names, err)
	}
	l.Release()
	if names, err := Names(dir); err != nil || len(names) > 0 {
		t.Errorf("after its release: %v, %v", names, err)
	}
	if names, err := Names(filepath.Join(dir, "none")); err != nil || len(names) > 0 {
		t.Errorf("of no directory: %v, %v", names, err)
	}
}

// The mark is when the lock was taken, by the clock and not by the kernel's tick, in which it could be taken twice.
func TestMarkIsWhenItWasTaken(t *testing.T) {
	dir := t.TempDir()
	for range 20 { // or it might be taken just when the kernel ticks
		began := time.Now().Truncate(time.Microsecond)
		l := mustTake(t, dir)
		if marked := time.Unix(0, look(t, dir).Mark); marked.Before(began) || marked.After(time.Now()) {
			t.Errorf("taken at %v it is marked %v", began, marked)
		}
		l.Release()
	}
}

// A file that is removed and made anew is another lock: that it is free says nothing about who holds the first.
func TestFileMadeAnewIsAnotherLock(t *testing.T) {
	dir := t.TempDir()
	first := mustTake(t, dir)
	if err := os.Remove(path(dir, "a")); err != nil {
		t.Fatal(err)
	}
	second := mustTake(t, dir)
	if first.ID() == second.ID() {
		t.Error("two files that are open have the same id")
	}
	first.Release() // must leave the second's file alone
	if state := look(t, dir); !state.Held || state.ID != second.ID() {
		t.Errorf("the second is %+v", state)
	}
}

// A program that the holder starts must not keep the lock when the holder is dead.
func TestLockIsNotInherited(t *testing.T) {
	dir := t.TempDir()
	l := mustTake(t, dir)
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Skipf("not run: needs the program sleep, to see whether a child keeps its parent's lock: %v", err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	_ = l.file.Close()
	if look(t, dir).Held {
		t.Error("the child holds it")
	}
}

// Where a lock could be taken from a process that lives there is none.
func TestOnlyLocalFileSystems(t *testing.T) {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Skipf("not run: needs a /proc, to see whether a file system that is not known to be local is refused: %v", err)
	}
	defer file.Close()
	if id, err := identify(file); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a file of /proc is %q, %v", id, err)
	}
}

func TestTakeSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(blocked, "a"); err == nil {
		t.Error("a file is taken for a directory")
	}
	if err := os.Symlink(blocked, path(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(dir, "a"); err == nil {
		t.Error("a link is followed")
	}
	if content, err := os.ReadFile(blocked); err != nil || len(content) > 0 {
		t.Errorf("and written to: %q, %v", content, err)
	}
	(*Lock)(nil).Release()
}
