package shard

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is generated into the documentation")

const (
	gatewayDoc   = "../../docs/gateway.md"
	generated    = "<!-- generated from pkg/shard/rules.go: go test ./pkg/shard -run TestGatewayDoc -update -->\n"
	generatedEnd = "<!-- end -->\n"
)

// TestGatewayDoc: the table in docs/gateway.md is the one the code decides by.
func TestGatewayDoc(t *testing.T) {
	text, err := os.ReadFile(gatewayDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), generated)
	have, after, ok2 := strings.Cut(rest, generatedEnd)
	if !ok || !ok2 {
		t.Fatal("the marks of the generated table are gone")
	}
	want := rulesTable()
	if have == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not up to date; run the command in it. Want\n%s", gatewayDoc, want)
	}
	if err := os.WriteFile(gatewayDoc, []byte(before+generated+want+generatedEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func rulesTable() string {
	var b strings.Builder
	b.WriteString("| Code | What happened | What follows | At the earliest after | Who must stop, and the cure |\n|---|---|---|---|---|\n")
	for _, r := range rules {
		code := "–"
		if r.code != 0 {
			code = fmt.Sprint(r.code)
		}
		follows := map[remedy]string{resume: "RESUME", resumeOnce: "RESUME, once", identify: "IDENTIFY", fatal: "nothing"}[r.remedy]
		if r.cause == stopped || r.cause == failed {
			follows = "nothing, the session is kept"
		}
		pause := ""
		if r.pause != (delay{}) {
			pause = fmt.Sprintf("%d to %d s", r.pause.min/time.Second, r.pause.max/time.Second)
		}
		if r.atOnce {
			pause = "0, the first time"
		}
		scope := map[Scope]string{ScopeBot: "the bot: ", ScopePlan: "the shard, until there is another plan: "}[r.scope]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s%s |\n", code, r.text, follows, pause, scope, r.cure)
	}
	fmt.Fprintf(&b, "| other | %s | RESUME |  |  |\n", ruleFor(lost, 4999).text)
	return b.String()
}
