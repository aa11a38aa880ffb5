#!/usr/bin/env bash
# usage: install.sh DESTDIR PREFIX BINARY
#
# Behind `make install`: copies the program to PREFIX/bin and the systemd unit to PREFIX/lib/systemd/system, below DESTDIR
# (empty: the root folder). It writes nothing else: no configuration, no user.
set -euo pipefail
cd "$(dirname "$0")/.."

destdir=$1 prefix=$2 binary=$3

if [[ $prefix != /* ]]; then
    echo "install: prefix must be an absolute path, not \"$prefix\"" >&2
    exit 2
fi
if [ ! -x "$binary" ]; then
    echo "install: $binary is missing: run \`make build\` first" >&2
    exit 1
fi
bin=$destdir$prefix/bin
units=$destdir$prefix/lib/systemd/system
install -d "$bin" "$units"
install -m 755 "$binary" "$bin/curlew"
sed "s#@bindir@#$prefix/bin#" config/curlew.service | install -m 644 /dev/stdin "$units/curlew.service"
echo "install: $bin/curlew"
echo "install: $units/curlew.service"
