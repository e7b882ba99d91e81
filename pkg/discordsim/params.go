package discordsim

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
)

// params are the parameters of a control request. Each is taken once; done tells the first thing that was wrong with them,
// which may be that one is left over.
type params struct {
	values url.Values
	err    error
}

func parseParams(raw string) *params {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return &params{err: fmt.Errorf("query: %w", err)}
	}
	return &params{values: values}
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *params) has(name string) bool { return len(p.values[name]) > 0 }

// take returns a parameter and whether it was given.
func (p *params) take(name string) (value string, given bool) {
	all := p.values[name]
	delete(p.values, name)
	if len(all) > 1 {
		p.fail("%s is given %d times, want once", name, len(all))
	}
	if len(all) == 0 {
		return "", false
	}
	return all[0], true
}

func (p *params) shard() int {
	text, given := p.take("shard")
	if !given {
		return AllShards
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		p.fail("shard is %q, want a number from 0, or no shard for all of them", text)
	}
	return n
}

func (p *params) bool(name string) bool {
	text, given := p.take(name)
	if given && text != "true" && text != "false" {
		p.fail("%s is %q, want true or false", name, text)
	}
	return text == "true"
}

func (p *params) closeCode() CloseCode {
	text, _ := p.take("code")
	n, err := strconv.Atoi(text)
	if code := CloseCode(n); err == nil && code.valid() {
		return code
	}
	p.fail("code is %q, want a close code that may be sent: 1000 to 1003, 1007 to 1014 or 3000 to 4999", text)
	return 0
}

func (p *params) rate() float64 {
	text, _ := p.take("per_second")
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || !validRate(rate) {
		p.fail("per_second is %q, want a number not below 0", text)
	}
	return rate
}

func (p *params) guild() uint64 {
	text, _ := p.take("guild")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		p.fail("guild is %q, want a guild's id", text)
	}
	return id
}

// id is a fault's, if one was given.
func (p *params) id() (id int, given bool) {
	text, given := p.take("id")
	n, err := strconv.Atoi(text)
	if given && err != nil {
		p.fail("id is %q, want the number of a fault", text)
	}
	return n, given
}

func (p *params) done() error {
	if left := slices.Sorted(maps.Keys(p.values)); len(left) > 0 {
		p.fail("%s is not a parameter of this request", left[0])
	}
	return p.err
}
