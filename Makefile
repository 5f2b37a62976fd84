# Tools run at pinned versions without entering go.mod. A program that is there
# already may be named instead: make lint GOLANGCI_LINT=golangci-lint
GOLANGCI_LINT ?= go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SQLC          ?= go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1
DEADCODE      ?= go run golang.org/x/tools/cmd/deadcode@v0.52.0
GOVULNCHECK   ?= go run golang.org/x/vuln/cmd/govulncheck@v1.8.0

# What targets are told: make test RUN=TestPlan PKG=./internal/parts
PKG  ?= ./...
RUN  ?= .
FILE ?=
SLOTS ?= 4
UPLOADS ?= 2000
SEED ?= 1
DURATION ?=
EVERY ?= 1m
FAULTS ?=
N ?= 1000
ROWS ?= 10000000
FUZZTIME ?= 20s

# From end to end, of what depends on the servers.
CONTAINER_TESTS = FilesOfAllSizesArrive|TheQueueIsLostInMidUpload|AChangedSourceFailsTheUpload|NATSAwayAndBack|StagingAwayAndBack|TwoDispatchersShareTheWork|SubmissionsByNATS
MINIO_TESTS     = FilesOfAllSizesArrive|NotificationsOfAStore|AChangedSourceFailsTheUpload|DigestPassThenInstantUpload|StagingAwayAndBack|WrongStagingCredentialsAreNamedAtTheStart

# A pipe fails with what fails in it.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## make sure of what builds and tests need
	@command -v go >/dev/null || { echo "Go is missing: install 1.26 or later, see https://go.dev/dl" >&2; exit 1; }
	@go mod download
	@scripts/postgres.sh

.PHONY: build
build: ## build bin/dispatcher, bin/worker and bin/mediaferry
	go build -trimpath -o bin/ ./cmd/dispatcher ./cmd/worker ./cmd/mediaferry

.PHONY: demo
demo: setup build ## start everything here and move a file; FILE=… moves one of yours
	bin/mediaferry demo $(if $(FILE),--file "$(FILE)") --slots $(SLOTS)

# The race detector needs a C compiler; without one the tests still tell a lot.
.PHONY: test
test: setup ## run all tests
	@race=-race; command -v "$$(go env CC)" >/dev/null || { race=; echo "no C compiler: testing without the race detector"; }; \
	set -x; go test $$race -shuffle=on -timeout 60m -run '$(RUN)' $(PKG)

# go test fuzzes one target at a time.
.PHONY: fuzz
fuzz: ## run every fuzz target for a while: FUZZTIME=… each
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' internal client cmd | xargs -n 1 dirname | sort -u); do \
		for target in $$(go test -list '^Fuzz' ./$$dir | grep '^Fuzz'); do \
			echo "$$dir $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$dir || exit 1; \
		done; \
	done

# A module of its own, so that the product does not depend on the vendors.
.PHONY: oracles
oracles: ## run the vendors' own clients against the local servers
	cd test/oracles && go test ./...

# A module of its own as well.
.PHONY: rules
rules: ## check alert rules and queries of dashboards by Prometheus's own parser
	cd test/rules && go test ./...

# And another one.
.PHONY: helm
helm: ## render the chart by Helm's engine, and check every object and all settings in it
	cd test/helm && go test ./...

.PHONY: bench
bench: setup ## compare with other movers, of which make bench-peers installs some; BENCH=… for its flags
	go build -trimpath -o bench/.bin/ ./bench/... ./cmd/dispatcher ./cmd/worker
	bench/.bin/bench $(BENCH)

.PHONY: bench-peers
bench-peers: ## install the other movers into bench/.peers
	bench/peers.sh

.PHONY: bench-reports
bench-reports: setup ## the ready reports over ten million ledger rows, and what folding costs; ROWS=…
	go build -trimpath -o bench/.bin/ ./bench/... ./cmd/dispatcher ./cmd/worker
	bench/.bin/bench -ledger $(ROWS)

.PHONY: conformance
conformance: ## what each provider does with each case of the suite that all must pass
	go run ./test/conformance

.PHONY: digest-pass
digest-pass: setup ## how close a worker's digest pass comes to the hash alone
	go test ./test/digestpass -count=1 -timeout 10m -run '^TestDigestPass$$' -v -args -size 64 -rounds 40

.PHONY: resume
resume: setup ## what is sent again when all of ours is lost in the middle of an upload
	go test ./test/platforms -count=1 -timeout 10m -run '^TestResume$$' -v -args -size 64

.PHONY: unknown-outcomes
unknown-outcomes: setup ## uploads of which every fifth call takes effect and fails; UPLOADS=…
	go test ./test/platforms -count=1 -timeout 15m -run '^TestUnknownOutcomes$$' -v -args -uploads $(UPLOADS)

.PHONY: explain
explain: setup ## stalls of every kind, and whether explain names their cause
	go test ./internal/service -count=1 -timeout 10m -run '^TestExplain$$' -v | grep -E 'right after|explained as|^(figure|ok|FAIL|---)'

.PHONY: bench-submit
bench-submit: setup ## how long a bulk submission of 100,000 lines takes
	BULK_LINES=100000 go test ./internal/service -count=1 -timeout 10m -run '^TestBulkSubmissionOfMany$$' -v | grep -E '^(figure|ok|FAIL|---)'

.PHONY: chaos
chaos: setup build ## uploads under faults of every kind, and a checker of the invariants; SEED=… DURATION=… FAULTS=…
	go run ./test/chaos -seed $(SEED) $(if $(DURATION),-duration $(DURATION)) -faults '$(FAULTS)'

.PHONY: chaos-long
chaos-long: ## the same for half an hour
	$(MAKE) chaos DURATION=30m

.PHONY: chaos-teeth
chaos-teeth: setup ## plant faults in a copy of the code, one at a time, and see that chaos finds each
	go run ./test/chaos/teeth

.PHONY: queue-wipe
queue-wipe: setup build ## lose all of the queue ten times during 200 uploads
	go run ./test/chaos -scenario queue-wipe -seed $(SEED)

.PHONY: deploy-storm
deploy-storm: setup build ## restart every process in turn, each minute of four; EVERY=… DURATION=…
	go run ./test/chaos -scenario deploy-storm -seed $(SEED) -every $(EVERY) $(if $(DURATION),-duration $(DURATION))

.PHONY: bitflips
bitflips: setup ## uploads in each of which one bit is turned over; N=…
	go test ./test/platforms -count=1 -timeout 15m -run '^TestBitFlips$$' -v -args -flips $(N)

.PHONY: pages
pages: ## use the pages in a real Chromium, and keep a picture of each in bin/pages
	@mkdir -p bin/pages
	go test ./test/pages -count=1 -timeout 10m -v -args -screenshots '$(CURDIR)/bin/pages'

.PHONY: images
images: ## build all images of deploy/compose.yaml here; those of servers only where they are missing
	deploy/images.sh missing

.PHONY: test-compose
test-compose: ## bring deploy/compose.yaml up, move a file while workers come and go, take it down
	MEDIAFERRY_TEST_COMPOSE="$(CURDIR)/scripts/compose.sh" scripts/with-docker.sh sh -ec '$(MAKE) images; \
		"$$MEDIAFERRY_TEST_COMPOSE" version; go test ./test/compose -count=1 -timeout 10m -v'

# A module of its own, so that the product does not depend on testcontainers.
.PHONY: test-containers
test-containers: ## run what depends on Postgres, NATS and S3 on servers in containers, by testcontainers-go
	cd test/containers && go build -trimpath -o ../../bin/test-containers .
	scripts/with-docker.sh sh -ec 'deploy/images.sh missing; \
		bin/test-containers run -count=1 -timeout 10m ./internal/postgres ./internal/staging; \
		bin/test-containers run -count=1 -timeout 10m -run "^Test($(CONTAINER_TESTS))\$$" ./internal/service'

.PHONY: test-minio
test-minio: setup ## staging, the provider s3, uploads and bucket notifications on a MinIO server, which is built once
	scripts/minio.sh
	go build -trimpath -o bin/test-minio ./test/minio
	PATH="$(CURDIR)/bin:$$PATH" MEDIAFERRY_TEST_S3='test-minio minio' \
		go test -count=1 -timeout 15m ./internal/staging ./internal/providers/s3
	PATH="$(CURDIR)/bin:$$PATH" MEDIAFERRY_TEST_S3='test-minio minio' \
		go test -count=1 -timeout 15m -run '^Test($(MINIO_TESTS))$$' ./internal/service

.PHONY: screenshots
screenshots: pages ## renew the pictures in docs/images
	@mkdir -p docs/images
	@for name in overview-1280 upload-1280 upload-1280-dark uploads-phone accounts-1280 failures-1280; do cp "bin/pages/$$name.png" docs/images/; done

.PHONY: lint
lint: ## check the code's form, its imports among it
	$(GOLANGCI_LINT) run ./...

.PHONY: fmt
fmt: ## format the code
	$(GOLANGCI_LINT) fmt ./...

.PHONY: generate
generate: ## write what is generated: SQL calls, the description of the API, the references of settings and commands
	cd internal/postgres && $(SQLC) generate
	go run ./cmd/mediaferry openapi >docs/openapi.json
	go run ./cmd/mediaferry settings >docs/configuration.md
	go run ./cmd/mediaferry reference >docs/cli.md

.PHONY: verify
verify: ## check what is generated, pinned or numbered
	cd internal/postgres && $(SQLC) diff
	go run ./cmd/mediaferry openapi | diff docs/openapi.json -
	go run ./cmd/mediaferry settings | diff docs/configuration.md -
	go run ./cmd/mediaferry reference | diff docs/cli.md -
	go mod tidy -diff
	@ls migrations/*.sql | awk -F '[/_]' '$$2 + 0 != NR { print "migrations: " $$0 " should have number " NR; bad = 1 } END { exit bad }'
	@dead=$$($(DEADCODE) -test ./...) || exit 1; if [ -n "$$dead" ]; then echo "$$dead"; exit 1; fi

.PHONY: vuln
vuln: ## look for known vulnerabilities; needs the network
	$(GOVULNCHECK) ./...

.PHONY: clean
clean: ## remove what was built
	rm -rf bin
