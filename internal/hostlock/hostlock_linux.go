package hostlock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bootIDFile has an id that is another after each boot, and the same in all containers of a host: see random(4).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// suffix tells lock files from others.
const suffix = ".lock"

// local are the file systems (statfs(2)) on which a lock is this kernel's own matter, and inode numbers are not used twice at once.
var local = map[int64]bool{
	unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true, unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true,
	unix.F2FS_SUPER_MAGIC: true, unix.OVERLAYFS_SUPER_MAGIC: true, 0x2fc12fc1: true, // ZFS
}

// Lock is a lock that this process holds. It must stay reachable: a Lock that is collected is released.
type Lock struct {
	file *os.File
	id   ID
}

// Take takes the lock of that name, in a directory that is made if it is not there. It does not wait: see [ErrHeld]. The name must be one
// that a file can have.
func Take(dir, name string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("take lock %s: %w", name, err)
	}
	for range 3 { // its owner may remove the file between our opening and locking it
		l, err := take(path(dir, name))
		if err != nil {
			return nil, fmt.Errorf("take lock %s: %w", name, err)
		}
		if l.current() {
			return l, nil
		}
		_ = l.file.Close()
	}
	return nil, fmt.Errorf("take lock %s: the file is removed again and again", name)
}

func take(path string) (*Lock, error) {
	// The runtime opens files so that no program that this process might start has them too (O_CLOEXEC).
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Lock{file: file}
	if l.id, err = identify(file); err == nil {
		err = lock(file)
	}
	if err == nil { // for people, and for State.Mark
		now := time.Now()
		err = errors.Join(file.Truncate(0), write(file, fmt.Sprintf("%d %d\n", os.Getpid(), now.UnixNano())), stamp(file, now))
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return l, nil
}

func write(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// stamp sets when the file was modified, to the microsecond. By itself a kernel before Linux 6.13 notes that by its tick, some milliseconds long, in which
// a lock can be taken twice.
func stamp(file *os.File, at time.Time) error {
	tv := unix.NsecToTimeval(at.UnixNano())
	return unix.Futimes(int(file.Fd()), []unix.Timeval{tv, tv})
}

// lock takes a lock of the open file, not of the process (Linux's open file description locks, fcntl(2)): it ends with the file's last
// descriptor, and it can be asked for without being taken.
func lock(file *os.File) error {
	err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrHeld
	}
	return err
}

// ID names the lock. On nil it names none.
func (l *Lock) ID() ID {
	if l == nil {
		return ""
	}
	return l.id
}

// Release removes the file and ends the lock. On nil it does nothing.
func (l *Lock) Release() {
	if l == nil {
		return
	}
	if l.current() {
		_ = os.Remove(l.file.Name()) // what stays behind is a file that nobody holds
	}
	_ = l.file.Close() // which cannot fail in a way that keeps the lock
}

// current reports whether the lock's file is still where others look for it.
func (l *Lock) current() bool {
	ours, err := l.file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(l.file.Name())
	return err == nil && os.SameFile(ours, there)
}

// Look says how the lock of that name is. If there is none, the error is [fs.ErrNotExist].
func Look(dir, name string) (State, error) {
	state, err := lookAt(path(dir, name))
	if err != nil {
		return State{}, fmt.Errorf("look at lock %s: %w", name, err)
	}
	return state, nil
}

func lookAt(path string) (State, error) {
	file, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return State{}, err
	}
	defer file.Close()
	id, err := identify(file)
	if err != nil {
		return State{}, err
	}
	info, err := file.Stat()
	if err != nil {
		return State{}, err
	}
	would := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_GETLK, &would); err != nil {
		return State{}, err
	}
	return State{ID: id, Held: would.Type != unix.F_UNLCK, Mark: info.ModTime().UnixNano()}, nil
}

// Names lists the locks of a directory, held or not.
func Names(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list locks: %w", err)
	}
	for _, entry := range entries {
		if name, is := strings.CutSuffix(entry.Name(), suffix); is {
			names = append(names, name)
		}
	}
	return names, nil
}

func path(dir, name string) string { return filepath.Join(dir, name+suffix) }

// identify is the ID of an open file.
func identify(file *os.File) (ID, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &fs); err != nil {
		return "", fmt.Errorf("statfs: %w", err)
	}
	if !local[int64(fs.Type)] {
		return "", fmt.Errorf("file system of type %#x, not known to be local: %w", fs.Type, errors.ErrUnsupported)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return "", fmt.Errorf("stat: %w", err)
	}
	boot, err := os.ReadFile(bootIDFile)
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	id := strings.TrimSpace(string(boot))
	if id == "" {
		return "", fmt.Errorf("boot id: %s is empty", bootIDFile)
	}
	return ID(fmt.Sprintf("%s/%x/%x", id, stat.Dev, stat.Ino)), nil
}
