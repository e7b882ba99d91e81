package stream

import ()

// enter finds out where the group stands. A group that is gone while it is being
// read is made again where it stood, or at the stream's end if that is before.
func (t *tenure) enter() ([]delivery, error) {
	from, bounded := t.g.from(t.shard), ""
	if t.entered {
		from, bounded = t.position, "bounded"
	}
	reply, err := t.ask(t.stop, enterScript, from, bounded)
	if err != nil {
		return nil, err
	}
	last, _ := reply.(string)
	at, err := ParseID(last)
	if err != nil { // an id that is none of ours was read, and passed
		t.g.r.logger.Warn("the group stands at a foreign entry", "shard", t.shard, "entry", last)
	}
	t.moved(last, at)
	t.entered = true
	t.phase = (*tenure).take
	return nil, nil
}

// take gets a page of the entries that were delivered to whomever and not
// acknowledged, oldest first.
func (t *tenure) take() ([]delivery, error) {
	reply, err := t.ask(t.stop, takeScript, t.g.id, t.takeOf, t.g.ahead())
	if err != nil {
		return nil, err
	}
	batch, err := parsePending(reply)
	if err != nil {
		return nil, err
	}
	if len(batch) == 0 {
		t.phase = (*tenure).read
		return nil, nil
	}
	t.takeOf = "(" + batch[len(batch)-1].id
	t.g.r.counts.taken.Add(uint64(len(batch)))
	return batch, nil
}

// read gets the next new entries. If there are none, it waits until there may be.
func (t *tenure) read() ([]delivery, error) {
	t.become(reading)
	reply, err := t.ask(t.stop, readScript, t.g.id, t.g.ahead())
	if err != nil {
		t.takeOf = "(" + t.position // they may have been delivered
		return nil, err
	}
	batch, err := parseRead(reply)
	if err != nil {
		return nil, err
	}
	if len(batch) == 0 {
		t.wait()
		return nil, nil
	}
	t.become(handling)
	if err := t.checkTrimmed(batch[0]); err != nil {
		t.g.r.logger.Warn("whether entries were lost is not known", "shard", t.shard, "after", t.after, "error", err)
	}
	return batch, nil
}

func (t *tenure) wait() {
	t.become(waiting)
	signal(t.g.watch)
	select {
	case <-t.news:
	case <-t.stop.Done():
	}
}

func (t *tenure) become(state tenureState) {
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.state = state
}

// passed takes note that an entry is settled. One that was delivered before
// need not be the last one read.
func (t *tenure) passed(d delivery) {
	id, err := ParseID(d.id)
	if !d.taken || err == nil && id.Compare(t.after) > 0 {
		t.moved(d.id, id)
	}
}

func (t *tenure) moved(position string, at ID) {
	t.after = at
	t.g.mu.Lock()
	defer t.g.mu.Unlock()
	t.position = position
}

// checkTrimmed reports a loss if entries between the last one read and the next
// were trimmed.
func (t *tenure) checkTrimmed(next delivery) error {
	if t.after.String() != t.position {
		return nil // a foreign entry was read last: what came after it is not known
	}
	m, err := next.message(t.shard)
	if err != nil || !mayHaveSkipped(t.after, m) {
		return nil
	}
	trimmed, err := trimmedUpTo(t.stop, t.g.r.client, t.keys[0], t.after)
	if trimmed {
		t.g.r.lost(t.ctx, Loss{Shard: t.shard, After: t.after, Before: m.ID})
	}
	return err
}
