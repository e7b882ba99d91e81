package discordsim_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"

	"github.com/muster-gateway/muster/pkg/discordsim"
)

// serve runs a simulator on a free port until stop is called.
func serve(opts discordsim.Options) (sim *discordsim.Server, url string, stop func()) {
	sim, err := discordsim.New(opts)
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- sim.Serve(ctx, listener) }()
	return sim, "ws://" + listener.Addr().String() + "/?v=10&encoding=json", func() { cancel(); <-served }
}

// message is a gateway message.
type message struct {
	Op int    `json:"op"`
	T  string `json:"t,omitempty"`
	D  any    `json:"d"`
}

// talk connects, sends IDENTIFY after HELLO, and tells what comes, until the connection ends or READY has come.
func talk(url string) {
	ctx := context.Background()
	ws, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		panic(err)
	}
	defer ws.CloseNow()
	for {
		var m message
		if err := wsjson.Read(ctx, ws, &m); err != nil {
			fmt.Println("closed with", int(websocket.CloseStatus(err)))
			return
		}
		fmt.Println(strings.TrimSpace(fmt.Sprintf("op %d %s", m.Op, m.T)))
		switch {
		case m.Op == 10:
			properties := map[string]string{"os": "linux", "browser": "example", "device": "example"}
			identify := map[string]any{"token": discordsim.DefaultToken, "intents": discordsim.IntentGuilds, "properties": properties}
			if err := wsjson.Write(ctx, ws, message{Op: 2, D: identify}); err != nil {
				panic(err)
			}
		case m.Op != 0 || m.T == "READY":
			return
		}
	}
}

// The next connection is told to reconnect instead of being greeted; the one after it is none the worse.
func ExampleServer_Inject() {
	sim, url, stop := serve(discordsim.Options{})
	defer stop()
	_, err := sim.Inject(discordsim.Fault{
		Stage: discordsim.StageHello, Kind: discordsim.FaultSend, Message: []byte(`{"op":7,"d":null}`), Times: 1,
	})
	if err != nil {
		panic(err)
	}
	talk(url)
	talk(url)
	// Output:
	// op 7
	// op 10
	// op 0 READY
}

// A hook answers the first IDENTIFY in its own way, and lets every other message pass.
func ExampleServer_OnMessage() {
	sim, url, stop := serve(discordsim.Options{})
	defer stop()
	const identify = 2
	refused := false
	sim.OnMessage(func(m *discordsim.Message) (handled bool) {
		if m.Op != identify || refused {
			return false
		}
		refused = true
		m.Peer.Close(discordsim.CloseUnknownError)
		return true
	})
	talk(url)
	talk(url)
	// Output:
	// op 10
	// closed with 4000
	// op 10
	// op 0 READY
}
