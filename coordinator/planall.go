package coordinator

import "github.com/muster-gateway/muster/pkg/lease"

// planAll decides on the ranges of all generations that there are: of the one in force, of the one that is being prepared, which is spread
// by itself and so as evenly, and of the former one, whose ranges are brought to their ends where they are, or where their owners are gone.
func planAll(s snapshot) decision {
	all := plan(s)
	inForce := s.plan
	if next, ok := inForce.Of(inForce.Next.Generation); ok {
		s.plan = next
		beside := plan(s)
		all.actions = append(all.actions, beside.actions...)
		all.again = earliest(all.again, beside.again)
	}
	if before, ok := inForce.Of(inForce.Former.Generation); ok && s.has(before.Generation) {
		s.plan = before
		ending := plan(s)
		for _, a := range ending.actions {
			leaves := s.workers[a.Range.Owner.Worker].Draining || s.cut[a.Range.Owner.Worker]
			if a.Range.Fence != 0 && (a.Kind != lease.Intend || leaves) { // one that is gone is not begun again, and none is moved to even out load
				all.actions = append(all.actions, a)
			}
		}
		all.again = earliest(all.again, ending.again)
	}
	return all
}

// has reports whether there are ranges of a generation.
func (s snapshot) has(generation int) bool {
	for id := range s.ranges {
		if id.Generation == generation {
			return true
		}
	}
	return false
}
