#!/bin/sh
# Everything that can be said about the code without running it.
set -eu
cd "$(dirname "$0")/.."

printf '\n== gofmt\n'
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
	printf 'not formatted (make fmt):\n%s\n' "$unformatted" >&2
	exit 1
fi
printf '\n== go vet\n'
go vet ./...
printf '\n== staticcheck\n'
go tool staticcheck ./...
printf '\n== go mod tidy\n'
go mod tidy -diff
