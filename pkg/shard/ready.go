package shard

import (
	"encoding/json"
	"errors"
)

// ready is what a session needs to know from READY's d (Discord: Gateway Events, Ready).
type ready struct {
	sessionID string
	resumeURL string
	blanked   []byte // d with "session_id":"" and otherwise byte for byte as sent
}

// readReady takes READY's d apart. It copies; d may be reused afterwards.
func readReady(d []byte) (ready, error) {
	var r ready
	done := 0
	members := object{b: d}
	for members.next() {
		switch string(members.key) {
		case "session_id":
			if json.Unmarshal(members.value(), &r.sessionID) != nil {
				return ready{}, errors.New("READY: session_id is no string")
			}
			r.blanked = append(r.blanked, d[done:members.start]...)
			r.blanked = append(r.blanked, `""`...)
			done = members.end
		case "resume_gateway_url":
			if json.Unmarshal(members.value(), &r.resumeURL) != nil {
				return ready{}, errors.New("READY: resume_gateway_url is no string")
			}
		}
	}
	if members.bad || r.sessionID == "" {
		return ready{}, errors.New("READY: no session_id")
	}
	r.blanked = append(r.blanked, d[done:]...)
	return r, nil
}
