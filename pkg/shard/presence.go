package shard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Presence is how the bot shows on one shard: with IDENTIFY by [Config.Presence], later as a [Command] (Discord: Gateway
// Events, Update Presence). "{{shard}}" in its texts stands for the shard's index.
type Presence struct {
	Since      *int64     `json:"since"` // when the bot went idle, in Unix milliseconds; nil if it did not
	Activities []Activity `json:"activities"`
	Status     string     `json:"status"` // "online", "dnd", "idle", "invisible", "offline"
	AFK        bool       `json:"afk"`
}

// Activity is what the bot is said to do (Discord: Gateway Events, Activity Object).
type Activity struct {
	Name  string `json:"name"`
	Type  int    `json:"type"`            // 0 playing, 1 streaming, 2 listening, 3 watching, 4 custom (State), 5 competing
	State string `json:"state,omitempty"` // the text of a custom one
	URL   string `json:"url,omitempty"`   // of a stream
}

// statuses are Discord's (Discord: Gateway Events, Status Types).
var statuses = []string{"online", "dnd", "idle", "invisible", "offline"}

const lastActivityType = 5

// ParsePresence reads a presence in Discord's own form: {"status":"online","activities":[{"name":"shard {{shard}}","type":3}]}.
// Only status is required. A member that a bot cannot set is an error, so that a misspelt one is noticed.
func ParsePresence(text string) (Presence, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	var p Presence
	if err := decoder.Decode(&p); err != nil {
		return Presence{}, fmt.Errorf("presence: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Presence{}, errors.New("presence: more than one JSON value")
	}
	if err := p.validate(); err != nil {
		return Presence{}, fmt.Errorf("presence: %w", err)
	}
	return p, nil
}

func (p Presence) validate() error {
	if !slices.Contains(statuses, p.Status) {
		return fmt.Errorf("status %q is none of %s", p.Status, strings.Join(statuses, ", "))
	}
	for _, a := range p.Activities {
		switch {
		case a.Name == "":
			return errors.New("an activity has no name")
		case a.Type < 0 || a.Type > lastActivityType:
			return fmt.Errorf("activity %q has type %d: want 0 to %d", a.Name, a.Type, lastActivityType)
		}
	}
	return nil
}

// on is the presence as one shard shows it.
func (p Presence) on(id ID) Presence {
	fill := strings.NewReplacer("{{shard}}", strconv.Itoa(id.Index)).Replace
	activities := make([]Activity, len(p.Activities)) // never nil: Discord wants a list
	for i, a := range p.Activities {
		activities[i] = Activity{Name: fill(a.Name), Type: a.Type, State: fill(a.State), URL: fill(a.URL)}
	}
	p.Activities = activities
	return p
}

func (p Presence) command(id ID) (int, any, error) {
	return opPresence, p.on(id), p.validate()
}
