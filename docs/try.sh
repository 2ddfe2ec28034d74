#!/bin/sh
# vbsrestore on this machine, in a minute: a simulated cloud that answers wrongly
# now and then, a real redis-server, two workers of which one is killed with
# kill -9 on the way, and 20 volumes. Everything is in a temporary folder and ends
# with this script. Nothing touches a real cloud.
set -eu
cd "$(dirname "$0")/.."

for program in redis-server curl; do
	command -v $program >/dev/null || {
		echo "$program is missing; install it with: sudo apt-get install $program" >&2
		exit 1
	}
done
dir=$(mktemp -d)
pids=
stop() {
	for p in $pids; do kill "$p" 2>/dev/null || true; done
	wait 2>/dev/null || true
	rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT TERM

say() { printf '\n$ %s\n' "$*"; }
start() { # start LOG COMMAND…: in the background; its pid is in $started
	log=$1
	shift
	"$@" >"$dir/$log" 2>&1 &
	started=$!
	pids="$pids $started"
}
await() { # await FILE
	n=0
	until [ -e "$1" ]; do
		n=$((n + 1))
		[ $n -lt 100 ] || { echo "$1 did not appear" >&2; cat "$dir"/*.log >&2; exit 1; }
		sleep 0.1
	done
}

go build -o "$dir/vbsrestore" ./cmd/vbsrestore
PATH="$dir:$PATH"
export VBSRESTORE_REDIS="unix://$dir/redis" VBSRESTORE_STORE="sqlite://$dir/results.db" OS_CLIENT_CONFIG_FILE="$dir/clouds.yaml" OS_CLOUD=simulator

start redis.log redis-server --port 0 --unixsocket "$dir/redis" --dir "$dir" --save '' --appendonly yes
await "$dir/redis"
say 'vbsrestore simulate --volumes 20 --seed 7 --faults standard --clouds-file clouds.yaml --pairs-file pairs.csv &'
start cloud.log vbsrestore simulate --listen 127.0.0.1:0 --volumes 20 --seed 7 --speed 40 --faults standard --clouds-file "$dir/clouds.yaml" --pairs-file "$dir/pairs.csv"
await "$dir/pairs.csv"
say 'vbsrestore worker &          (two of them)'
start worker1.log vbsrestore worker --name worker-1
first=$started
start worker2.log vbsrestore worker --name worker-2
until vbsrestore cloud set simulator --settle 5s --reason 'short, for this demonstration' >/dev/null 2>&1; do sleep 0.2; done
say 'vbsrestore enqueue --file pairs.csv --yes 20'
vbsrestore enqueue --file "$dir/pairs.csv" --yes 20 -f csv >/dev/null
sleep 2
say "kill -9 $first             (worker-1)"
kill -9 "$first"
start worker3.log vbsrestore worker --name worker-3

n=0
while [ "$(vbsrestore restore list --state succeeded -f value -c ID | wc -l)" -lt 20 ]; do
	n=$((n + 1))
	[ $n -lt 600 ] || { echo "not all were restored in time" >&2; vbsrestore restore list >&2; cat "$dir"/worker*.log >&2; exit 1; }
	sleep 0.3
done
say 'vbsrestore restore list'
vbsrestore restore list
shown=$(vbsrestore restore list -f value -c 'VOLUME NAME' -c ATTEMPTS | sort -k 2 -rn | head -n 1 | cut -d ' ' -f 1)
say "vbsrestore restore show $shown"
vbsrestore restore show "$shown"
say 'what the cloud itself says: executed restores, and how many volumes were written more than once'
url=$(sed -n 's/.*auth_url: *"\{0,1\}\([^"]*\)\/v3.*/\1/p' "$dir/clouds.yaml")
curl -s "$url/simulator/executions" | tr '{' '\n' | sed -n 's/.*"volume_id":"\([^"]*\)".*/\1/p' | sort | uniq -c | awk '{ n += $1; if ($1 > 1) doubled++ } END { printf "%d executed · %d doubled\n", n, doubled; exit n != 20 || doubled > 0 }'
