package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/muster-gateway/muster/pkg/discordsim"
)

// asBot makes the test binary the bot itself.
const asBot = "ONEBOT_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(asBot) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestOnebot runs the bot as a process against a simulated Discord, which knows no messages and answers 404.
func TestOnebot(t *testing.T) {
	sim, err := discordsim.New(discordsim.Options{Privileged: discordsim.PrivilegedIntents, Rate: 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { sim.Run(ctx) })
	defer group.Wait()
	defer cancel()
	posts := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, err := io.ReadAll(r.Body)
			posts <- fmt.Sprint(r.URL.Path, " ", r.Header.Get("Authorization"), " ", string(body), err)
		}
		sim.Handler().ServeHTTP(w, r)
	}))
	defer server.Close()

	bot := exec.CommandContext(t.Context(), os.Args[0])
	bot.Env = append(os.Environ(), asBot+"=1", "DISCORD_TOKEN="+discordsim.DefaultToken, "DISCORD_API_URL="+server.URL+"/api/v10")
	stderr, err := bot.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := bot.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewScanner(stderr)
	await := func(text string) {
		t.Helper()
		for log.Scan() {
			if strings.Contains(log.Text(), text) {
				return
			}
		}
		t.Fatalf("the bot ended without saying %q", text)
	}
	await("is live")
	for _, content := range []string{"not a ping", "!ping"} {
		message := fmt.Sprintf(`{"id":"1","channel_id":"4711","content":%q,"author":{"id":"2","username":"ann"}}`, content)
		if n, err := sim.DispatchGuild(sim.Guilds()[0], "MESSAGE_CREATE", []byte(message)); n != 1 || err != nil {
			t.Fatalf("sent to %d sessions: %v", n, err)
		}
	}
	select {
	case got := <-posts:
		if want := `/api/v10/channels/4711/messages Bot simulated-token {"content":"pong"}<nil>`; got != want {
			t.Errorf("posted %s, want %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("no answer was attempted")
	}
	await("pong to ann: 404 Not Found")

	if err := bot.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("is stopped")
	if err := bot.Wait(); err != nil {
		t.Errorf("the bot ended with %v", err)
	}
	if len(posts) != 0 {
		t.Errorf("it answered once more: %s", <-posts)
	}
	if logs := sim.Sessions(); len(logs) != 1 || logs[0].Ended != "" {
		t.Errorf("sessions %+v", logs)
	}
	if v := sim.Violations(); len(v) != 0 {
		t.Errorf("violations %+v", v)
	}
}

// TestOnebotWithoutToken ends at once and says what is missing.
func TestOnebotWithoutToken(t *testing.T) {
	bot := exec.CommandContext(t.Context(), os.Args[0])
	bot.Env = append(os.Environ(), asBot+"=1", "DISCORD_TOKEN=")
	out, err := bot.CombinedOutput()
	if bot.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "Token is empty") {
		t.Errorf("%v: %s", err, out)
	}
}
