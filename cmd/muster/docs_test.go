package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/muster-gateway/muster/internal/config"
)

// Commands as the documentation has them are accepted as they are typed.
func TestDocumentedCommands(t *testing.T) {
	command := regexp.MustCompile("(?m)(?:^|`|\\$ |/cmd/)muster ([a-z][^`#\n]* --[^`#\n]*)")
	word := regexp.MustCompile(`'[^']*'|\S+`)
	placeholder := strings.NewReplacer("WORKER", "a", "--rate R", "--rate 9", "PORT", "6379")
	found := 0
	for _, pattern := range []string{"README.md", "docs/*.md", "k8s/*.md", "examples/*.md"} {
		pages, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range pages {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range command.FindAllStringSubmatch(string(text), -1) {
				var args []string
				for _, arg := range word.FindAllString(placeholder.Replace(match[1]), -1) {
					args = append(args, strings.Trim(arg, "'"))
				}
				if _, _, ok := config.ParseCommand("muster", "", &cli{}, args); !ok {
					t.Errorf("%s: muster %s is not accepted", page, match[1])
				}
				found++
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d commands were found", found)
	}
}
