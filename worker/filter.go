package worker

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/muster-gateway/muster/pkg/stream"
)

// Filter says which events, by type, go into the streams. The zero Filter: all of them. It changes nothing for the sessions
// themselves, which see every event; and READY is always there, because it is what an epoch begins with in a stream and is resumed by.
type Filter struct {
	types []string // sorted
	deny  bool     // all but these
}

const typeReady = "READY"

var eventName = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)

// ParseFilter reads a comma separated list of event types: those wanted, or, each with - or ! before it, those not wanted.
func ParseFilter(text string) (Filter, error) {
	var f Filter
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			continue
		}
		name := strings.TrimLeft(word, "-!")
		deny := name != word
		switch {
		case len(word)-len(name) > 1 || !eventName.MatchString(name):
			return Filter{}, fmt.Errorf("%q: want names of events, such as MESSAGE_CREATE or, to leave it out, -MESSAGE_CREATE", word)
		case len(f.types) > 0 && deny != f.deny:
			return Filter{}, fmt.Errorf("%q: want either events to have or events to leave out, not both", word)
		case deny && (name == typeReady || name == stream.GapType):
			return Filter{}, fmt.Errorf("%q: %s cannot be left out: sessions begin with it in the streams", word, name)
		}
		f.types, f.deny = append(f.types, name), deny
	}
	slices.Sort(f.types)
	f.types = slices.Compact(f.types)
	return f, nil
}

// Wants reports whether events of a type go into the streams.
func (f Filter) Wants(eventType string) bool {
	if len(f.types) == 0 || eventType == typeReady {
		return true
	}
	_, listed := slices.BinarySearch(f.types, eventType)
	return listed != f.deny
}

// String is the filter as ParseFilter reads it, in one form whatever was read; "" for all.
func (f Filter) String() string {
	if !f.deny || len(f.types) == 0 {
		return strings.Join(f.types, ",")
	}
	return "-" + strings.Join(f.types, ",-")
}
