package lease

import (
	"errors"
	"strings"
	"testing"
)

// A version that does not know how the keys are meant does not start.
func TestALaterSchemaIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		record  string
		refused bool
	}{
		"none yet": {"", false}, "ours": {`{"version":1}`, false}, "an earlier one": {`{"version":0}`, false},
		"a later one": {`{"version":2,"more":true}`, true}, "garbage": {`{`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			if c.record != "" {
				s.testPut(t, keySchema, c.record)
			}
			err := s.AwaitReady(t.Context())
			var refused *SchemaError
			if errors.As(err, &refused) != c.refused || !c.refused && err != nil {
				t.Errorf("got %v", err)
			}
			if c.refused && !strings.Contains(err.Error(), "run a later version") {
				t.Errorf("it says %q", err)
			}
		})
	}
}

// The first leader writes the schema down, and no other changes it.
func TestTheLeaderNotesTheSchema(t *testing.T) {
	s := newStore(t)
	lead(t, s).Resign()
	if got := awaitKeys(t, s, keySchema, 1)[0]; string(got.Value) != `{"version":1}` {
		t.Errorf("it is %s", got.Value)
	}
	s.testPut(t, keySchema, `{"version":1,"more":true}`)
	lead(t, s)
	if got := awaitKeys(t, s, keySchema, 1)[0]; string(got.Value) != `{"version":1,"more":true}` {
		t.Errorf("it became %s", got.Value)
	}
}
