# muster: every check and chore by name. `make help` lists them.

GO       ?= go
PACKAGES ?= ./...
FUZZTIME ?= 20s
BENCH    ?= .
BENCH_ROUNDS ?= 3

.DEFAULT_GOAL := help
.PHONY: help fmt lint test test-clients test-deploy race fuzz bench bench-scale microbench fleet dev redis licences metrics vuln

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

fmt: ## format the code
	$(GO) fmt $(PACKAGES)

lint: ## formatting, go vet and staticcheck (pinned in go.mod)
	@bad=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); if [ -n "$$bad" ]; then echo "gofmt would change:"; echo "$$bad"; exit 1; fi
	$(GO) vet $(PACKAGES)
	$(GO) tool staticcheck $(PACKAGES)
	cd test/deploy && $(GO) vet ./... && "$$(cd ../.. && $(GO) tool -n staticcheck)" ./...

test: redis ## all tests, with the race detector, against real etcd, Redis and processes
	@# Many tests wait most of their time, for what takes Discord's five seconds: hence more of them at a time than there are processors.
	$(GO) test -race -timeout 12m -parallel 4 $$($(GO) list $(PACKAGES) | grep -vE '/test/(e2e|conformance)$$')
	$(GO) test -race -timeout 12m -parallel 4 ./test/e2e # by itself: it starts dozens of processes
	$(GO) test -run 'TestDisgo|TestDiscordgo' ./pkg/discordsim # disgo has races of its own, so these cannot run above
	$(GO) test ./test/conformance # pkg/shard through all that pkg/discordsim can do to it; both have run with the race detector
	$(GO) test -run TestReconnectsLeaveNothing ./pkg/shard # left out above: it measures memory, also the race detector's
	$(MAKE) test-deploy

test-deploy: redis ## Dockerfile, docker-compose.yml and k8s/ against the programs; a module of its own, for its dependencies are many
	@# Go would not see that files outside of the module have changed: nothing is taken from its cache. Without the race detector, for what runs
	@# is the programs, built as the images have them.
	cd test/deploy && $(GO) test -count=1 -timeout 12m ./...

test-clients: ## gateway libraries that nobody here wrote, on Node.js, against the simulated Discord
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT INT TERM && \
	  $(GO) build -o "$$dir/muster" ./cmd/muster && MUSTER="$$dir/muster" test/clients/run

race: test ## the same: tests always run with the race detector

fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$pkg/*_test.go | sed 's/func //'); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

bench: redis ## from socket to Redis, beside the ideal, disgo and Redis' own limit, as ratios; BENCH_ROUNDS rounds (docs/performance.md)
	$(GO) run ./cmd/muster bench -rounds $(BENCH_ROUNDS)

bench-scale: ## 1,000 simulated workers with 100,000 shards on a real etcd: assignment, load, deaths (docs/coordination.md); SCALE are its flags
	$(GO) run ./test/scale $(SCALE)

fleet: redis ## at full size, for a quarter of an hour: a first start of 960 shards, 16 at a time, and their 30 workers replaced one after another; one of 64, 4 at a time
	$(GO) test -count=1 -timeout 30m -v -run 'TestRollingRestart|TestColdStart' ./test/fleet -roll.workers 30 -roll.shards 960 -roll.buckets 16 -cold.shards 64

microbench: redis ## Go's benchmarks of single parts; BENCH picks by name
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PACKAGES)

licences: ## docs/licences.md anew, from go.mod
	$(GO) test ./test/rules -run TestLicences -count=1 -update

metrics: ## docs/metrics.md anew, from what the binaries register
	$(GO) test ./test/rules -run TestMetricsPage -count=1 -update

vuln: ## known vulnerabilities of what is linked (asks vuln.go.dev)
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 $(PACKAGES)

dev: ## a whole cluster on this machine
	$(GO) run ./cmd/muster dev

# Tests want a real redis-server. Where it is missing and can be installed, it is; else they say what they did not run.
redis:
	@./.ci/redis-server
