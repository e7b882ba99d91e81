package discordsim

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestNewRejectsOptionsThatMakeNoSense(t *testing.T) {
	for field, opts := range map[string]Options{
		"Shards":                          {Shards: -1},
		"MaxConcurrency":                  {MaxConcurrency: -1},
		"ShardMultiple":                   {Shards: 5, ShardMultiple: 2},
		"SessionLimit.Total":              {SessionLimit: SessionLimit{Total: -1}},
		"SessionLimit.Used":               {SessionLimit: SessionLimit{Total: 10, Used: 11}},
		"SessionLimit.ResetAfter":         {SessionLimit: SessionLimit{ResetAfter: -time.Second}},
		"Guilds":                          {Guilds: maxGuilds + 1},
		"Rate":                            {Rate: math.NaN()},
		"Privileged":                      {Privileged: IntentGuilds},
		"HeartbeatInterval":               {HeartbeatInterval: time.Microsecond},
		"HeartbeatGrace":                  {HeartbeatGrace: -1},
		"SilenceCode":                     {SilenceCode: 1006},
		"IdentifyWindow":                  {IdentifyWindow: -1},
		"SessionLifetime":                 {SessionLifetime: -1},
		"ReplayEvents":                    {ReplayEvents: -1},
		"ReplayBytes":                     {ReplayBytes: -1},
		"Unspecified.ResumeWhileLive":     {Unspecified: Unspecified{ResumeWhileLive: "both"}},
		"Unspecified.InvalidSessionDelay": {Unspecified: Unspecified{InvalidSessionDelay: -1}},
		"Unspecified.GuildInterval":       {Unspecified: Unspecified{GuildInterval: -1}},
		"Unspecified.Outages":             {Unspecified: Unspecified{Outages: 101}},
		"Unspecified.GoingAwayCode":       {Unspecified: Unspecified{GoingAwayCode: 1006}},
		"Unspecified.ReconnectPatience":   {Unspecified: Unspecified{ReconnectPatience: -1}},
		"Allow":                           {Allow: []Rule{"everything"}},
	} {
		if _, err := New(opts); err == nil || !strings.Contains(err.Error(), field+" is") {
			t.Errorf("%s: got error %v, want one that names the field", field, err)
		}
	}
	if _, err := New(Options{}); err != nil {
		t.Errorf("the zero value: %v", err)
	}
}
