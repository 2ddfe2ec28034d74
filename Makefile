# What each target does stands behind its name; make without a target lists them.

.PHONY: help try test bench soak lint fmt

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

try: ## see it work: a simulated cloud, Redis, two workers, one killed
	@sh docs/try.sh

test: ## the whole check, as CI runs it; says at the end what did not run
	@sh .ci/test.sh

bench: ## all benchmarks, measured
	go test -run '^$$' -bench . -benchmem ./...

soak: ## the fault simulation with many seeds: make soak SEEDS=1000
	VBSRESTORE_SEEDS=$${SEEDS:-1000} go test -timeout 3h -run 'TestFaultSimulation' ./worker/...

lint: ## format, vet, staticcheck, go.mod
	@sh .ci/lint.sh

fmt: ## format the code
	gofmt -w .
