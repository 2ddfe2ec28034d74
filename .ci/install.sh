#!/bin/sh
# install.sh PACKAGE...: installs Debian packages where that is ours to do: in CI
# and as root. On a person's machine it does nothing and succeeds.
set -eu

as_root=
if [ "$(id -u)" != 0 ]; then
	[ "${CI:-}" = true ] || exit 0
	as_root=sudo
fi
if ! command -v apt-get >/dev/null 2>&1; then
	echo "install.sh: no apt-get here, cannot install: $*" >&2
	exit 0
fi
printf '\n== install %s\n' "$*"
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -q
$as_root apt-get install -q -y --no-install-recommends "$@"
