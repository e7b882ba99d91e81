package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

const docFile = "../../docs/configuration.md"

const docHead = `# Configuration

<!-- Written by go test ./internal/config -run TestConfigurationPage -update, from the flags; a test holds it to them. -->

Every setting is a flag and an environment variable; flags win. ` + "`coordinator --help` and `worker --help`" + ` list the same. A variable that is set to nothing counts as
not set. Bad input is named in one line, with exit code 2. Secrets are read from variables or files, never from anything that is logged or served.
`

// setting is a row of the page.
type setting struct{ variable, flag, who, group, meaning, fallback string }

// The page that people configure by says what the binaries read.
func TestConfigurationPage(t *testing.T) {
	want := docHead
	group := "none yet"
	for _, s := range settings(t) {
		if s.group != group {
			group = s.group
			want += fmt.Sprintf("\n## %s\n\n| variable | flag | for | meaning | default |\n|---|---|---|---|---|\n", group)
		}
		want += fmt.Sprintf("| `%s` | `--%s` | %s | %s | %s |\n", s.variable, s.flag, s.who, strings.ReplaceAll(s.meaning, "|", `\|`), s.fallback)
	}
	if *update {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the flags say: run go test ./internal/config -run TestConfigurationPage -update", docFile)
	}
}

// settings are those of both binaries, by group in the order of the flags; what both read is there once.
func settings(t *testing.T) (all []setting) {
	byFlag := map[string]int{}
	for _, binary := range []struct {
		name string
		cli  any
	}{{"coordinator", &Coordinator{}}, {"worker", &Worker{}}} {
		parser, err := kong.New(binary.cli, kong.Name(binary.name))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range parser.Model.Flags {
			if len(f.Envs) == 0 { // it is no setting but something else to do: --help, --version, --check
				continue
			}
			if len(f.Envs) != 1 || f.Help == "" {
				t.Errorf("--%s of %s: want one variable and a help, has %v and %q", f.Name, binary.name, f.Envs, f.Help)
				continue
			}
			s := settingOf(f, binary.name)
			if i, ok := byFlag[f.Name]; ok && all[i].meaning == s.meaning && all[i].variable == s.variable {
				if all[i].who = "both"; all[i].fallback != s.fallback {
					all[i].fallback = fmt.Sprintf("coordinator %s, worker %s", all[i].fallback, s.fallback)
				}
				continue
			}
			byFlag[f.Name] = len(all)
			all = append(all, s)
		}
	}
	return grouped(all)
}

// settingOf takes the default out of the help, where --help has it in brackets at the end.
func settingOf(f *kong.Flag, binary string) setting {
	s := setting{variable: f.Envs[0], flag: f.Name, who: binary, group: "Cluster and process", meaning: f.Help, fallback: "none"}
	if f.Group != nil {
		s.group = f.Group.Title
	}
	if i := strings.LastIndex(f.Help, " ("); i >= 0 && strings.HasSuffix(f.Help, ").") {
		s.meaning, s.fallback = f.Help[:i]+".", f.Help[i+2:len(f.Help)-2]
	}
	if f.HasDefault && f.Default == s.fallback {
		s.fallback = "`" + s.fallback + "`"
	}
	return s
}

func grouped(all []setting) (out []setting) {
	var order []string
	by := map[string][]setting{}
	for _, s := range all {
		if by[s.group] == nil {
			order = append(order, s.group)
		}
		by[s.group] = append(by[s.group], s)
	}
	for _, g := range order {
		out = append(out, by[g]...)
	}
	return out
}
