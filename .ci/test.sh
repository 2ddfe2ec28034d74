#!/bin/sh
# The whole check. The last line says "everything ran", or what did not and how
# to get it.
set -eu
cd "$(dirname "$0")/.."

# program, Debian packages, what does not run without it
wanted='redis-server|redis-server|tests and benchmarks on a real Redis, make try
curl|curl|make try
gcc|gcc libc6-dev|the race detector'

# missing FIELD: that field of each wanted program that is not there.
missing() {
	echo "$wanted" | while IFS='|' read -r program packages what; do
		command -v "$program" >/dev/null 2>&1 && continue
		case $1 in
		packages) printf '%s ' "$packages" ;;
		what) printf '%s; ' "$what" ;;
		esac
	done
}

packages=$(missing packages)
# shellcheck disable=SC2086 # a list of words
[ -z "$packages" ] || sh .ci/install.sh $packages

sh .ci/lint.sh

race=-race
command -v gcc >/dev/null 2>&1 || race=
printf '\n== tests\n'
# shellcheck disable=SC2086 # an empty flag is none
go test $race -shuffle=on -timeout 20m ./...

printf '\n== fault simulation, 100 seeds; killed and frozen at every step\n'
VBSRESTORE_SEEDS=${SEEDS:-100} go test -timeout 30m -run 'TestFaultSimulation$|AtEveryStep' ./worker
printf '\n== with neighbours and hostile, a few seeds (make soak: many)\n'
VBSRESTORE_SEEDS=8 go test -timeout 30m -run 'TestFaultSimulation(WithNeighbours|Hostile)' ./worker

printf '\n== each benchmark once\n'
go test -run '^$' -bench . -benchtime 1x ./...

if command -v redis-server >/dev/null 2>&1 && command -v curl >/dev/null 2>&1; then
	printf '\n== make try\n'
	sh docs/try.sh
fi

what=$(missing what)
if [ -z "$what" ]; then
	printf '\neverything ran\n'
	exit
fi
packages=$(missing packages)
printf '\ndid not run: %s; install it with: sudo apt-get install %s\n' "${what%; }" "${packages% }"
[ "${CI:-}" != true ] # in CI everything must run
