package discordsim

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	chunkSize        = 1000             // members in one GUILD_MEMBERS_CHUNK
	maxQueryMembers  = 100              // members a query or a list of ids may ask for
	maxNonce         = 32               // bytes; a longer one is dropped
	allMembersPeriod = 30 * time.Second // between two requests for all members of one guild
)

// memberRequest is the d of op 8.
// See https://discord.com/developers/docs/events/gateway-events#request-guild-members.
type memberRequest struct {
	GuildID   *snowflake      `json:"guild_id"`
	Query     *string         `json:"query"`
	Limit     int             `json:"limit"`
	UserIDs   json.RawMessage `json:"user_ids"`
	Presences bool            `json:"presences"`
	Nonce     string          `json:"nonce"`
}

// requestGuildMembers answers with GUILD_MEMBERS_CHUNKs, or with RATE_LIMITED when all members of a guild are asked
// for too often. Asking for all of them without the intent gets no answer; presences need their intent as well.
func (s *Server) requestGuildMembers(_ *conn, sess *session, d json.RawMessage) error {
	r, err := decode[memberRequest](d)
	if err != nil {
		return err
	}
	ids, err := userIDs(r.UserIDs)
	if err != nil {
		return err
	}
	if r.GuildID == nil || r.Query == nil && len(ids) == 0 || r.Limit < 0 || len(ids) > maxQueryMembers {
		return fmt.Errorf("decode d: not a request for members")
	}
	if len(r.Nonce) > maxNonce {
		r.Nonce = ""
	}
	r.Presences = r.Presences && sess.intents&IntentGuildPresences != 0
	guild := uint64(*r.GuildID)
	if !s.world.has(guild, sess) {
		return nil
	}
	all := s.world.everybody(guild)
	switch {
	case len(ids) > 0:
		found, missing := byID(all, ids)
		sendMembers(sess, r, found, missing)
	case *r.Query == "" && r.Limit == 0:
		if sess.intents&IntentGuildMembers == 0 {
			return nil
		}
		if wait := allMembersPeriod - time.Since(s.requests[guild]); wait > 0 {
			sess.dispatch("RATE_LIMITED", fmt.Appendf(nil, `{"opcode":8,"retry_after":%.3f,"meta":{"guild_id":"%d"%s}}`,
				wait.Seconds(), guild, nonceField(r.Nonce)))
			return nil
		}
		s.requests[guild] = time.Now()
		sendMembers(sess, r, all, nil)
	default:
		limit := maxQueryMembers
		if r.Limit > 0 {
			limit = min(limit, r.Limit)
		}
		sendMembers(sess, r, byName(all, *r.Query, limit), nil)
	}
	return nil
}

// everybody is the guild's members.
func (w *world) everybody(guild uint64) []person {
	all := make([]person, w.members(guild))
	for i := range all {
		all[i] = w.member(guild, i)
	}
	return all
}

// byID picks the members with these ids, and the ids that are of no member.
func byID(all []person, ids []snowflake) (found []person, missing []snowflake) {
	for _, id := range ids {
		i := slices.IndexFunc(all, func(p person) bool { return p.id == uint64(id) })
		if i < 0 {
			missing = append(missing, id)
		} else {
			found = append(found, all[i])
		}
	}
	return found, missing
}

// byName picks members whose user name begins like this.
func byName(all []person, prefix string, limit int) (found []person) {
	prefix = strings.ToLower(prefix)
	for _, p := range all {
		if len(found) < limit && strings.HasPrefix(p.name(), prefix) {
			found = append(found, p)
		}
	}
	return found
}

// sendMembers dispatches members in chunks.
func sendMembers(sess *session, r memberRequest, members []person, missing []snowflake) {
	guild := uint64(*r.GuildID)
	notFound := make([]string, len(missing))
	for i, id := range missing {
		notFound[i] = fmt.Sprintf(`"%d"`, id)
	}
	chunks := max(1, (len(members)+chunkSize-1)/chunkSize)
	for chunk := range chunks {
		of := members[chunk*chunkSize : min(len(members), (chunk+1)*chunkSize)]
		b := idOf(nil, `{"guild_id":`, guild)
		b = append(b, `,"members":[`...)
		for i, p := range of {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendMember(b, guild, p, true)
		}
		b = fmt.Appendf(b, `],"chunk_index":%d,"chunk_count":%d,"not_found":[%s]%s`, chunk, chunks, strings.Join(notFound, ","), nonceField(r.Nonce))
		if r.Presences {
			b = appendPresences(b, of)
		}
		sess.dispatch("GUILD_MEMBERS_CHUNK", append(b, '}'))
	}
}

// appendPresences appends a presence for each of these people.
func appendPresences(b []byte, people []person) []byte {
	b = append(b, `,"presences":[`...)
	for i, p := range people {
		if i > 0 {
			b = append(b, ',')
		}
		d := dice{p.seed}
		b = idOf(b, `{"user":{"id":`, p.id)
		b = str(b, `},"status":"`, d.pick(statuses))
		b = append(b, `","client_status":{},"activities":[]}`...)
	}
	return append(b, ']')
}

// userIDs reads user_ids, which is one id or a list.
func userIDs(raw json.RawMessage) ([]snowflake, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	if raw[0] != '[' {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	var ids []snowflake
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, fmt.Errorf("decode d: user_ids: %w", err)
	}
	return ids, nil
}

func nonceField(nonce string) string {
	if nonce == "" {
		return ""
	}
	quoted, _ := json.Marshal(nonce) // a string always can be
	return `,"nonce":` + string(quoted)
}
