#!/usr/bin/env bash
# usage: deb.sh BINARY
#
# Behind `make deb`: builds the Debian package build/deb/curlew_VERSION_ARCHITECTURE.deb from a program that is built, and
# prints its path last. DEB_REVISION is the last part of the version; default 1.
set -euo pipefail
cd "$(dirname "$0")/.."

binary=$(realpath "$1")
version=$("$binary" version)
version=${version#curlew }-${DEB_REVISION:-1}
folder=$(dirname "$binary")/deb
export SOURCE=$PWD BINARY=$binary

rm -rf "$folder"
mkdir -p "$folder/tree"
cp -r packaging/debian "$folder/tree/debian"
cat >"$folder/tree/debian/changelog" <<EOF
curlew ($version) unstable; urgency=medium

  * The changes are in CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(date --rfc-email --date="@${SOURCE_DATE_EPOCH:-$(date +%s)}")
EOF
(cd "$folder/tree" && dpkg-buildpackage --build=binary --no-sign --no-pre-clean) >"$folder/build.log" 2>&1 || {
    cat "$folder/build.log" >&2
    exit 1
}
rm -r "$folder/tree"
echo "deb: $folder/curlew_${version}_$(dpkg --print-architecture).deb"
