#!/usr/bin/env bash
# usage: install.sh DESTDIR PREFIX BINARY
#
# Behind `make install`: copies the program to PREFIX/bin, the systemd units to PREFIX/lib/systemd/system, and manual pages
# and completions of shells to PREFIX/share, below DESTDIR (empty: the root folder). The last two are beside the program, in
# the folder of its build. It writes nothing else: no configuration, no user.
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
reference=$(dirname "$binary")/packaging/reference

# put MODE SOURCE TARGET: copies a file, creates the folder of its target, and says so.
put() {
    install -D -m "$1" "$2" "$destdir$prefix/$3"
    echo "install: $destdir$prefix/$3"
}

put 755 "$binary" bin/curlew
sed "s#@bindir@#$prefix/bin#" packaging/systemd/curlew.service | put 644 /dev/stdin lib/systemd/system/curlew.service
put 644 packaging/systemd/curlew.socket lib/systemd/system/curlew.socket
put 644 packaging/systemd/curlew.sysusers lib/sysusers.d/curlew.conf
put 644 packaging/systemd/curlew.tmpfiles lib/tmpfiles.d/curlew.conf
put 644 "$reference/curlew.1" share/man/man1/curlew.1
put 644 "$reference/curlew.json.5" share/man/man5/curlew.json.5
put 644 "$reference/curlew.bash" share/bash-completion/completions/curlew
put 644 "$reference/_curlew" share/zsh/site-functions/_curlew
put 644 "$reference/curlew.fish" share/fish/vendor_completions.d/curlew.fish
