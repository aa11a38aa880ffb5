#!/usr/bin/env bash
# usage: install-packages.sh GROUP...
#
# Installs what the named groups of the table below lack, with apt-get. Says what it is about to do, asks for root only
# when something is missing, and answers `packages: ok` when nothing is.
set -euo pipefail

# group | package, or alternatives (the first one that the release offers is installed) | what it is for
# Packages `node` and `npm` mean nodejs and npm, unless good ones are on the PATH from elsewhere.
table='
build | gcc                          | the compiler
build | libc6-dev                    | its headers
build | meson                        | describes the build
build | ninja-build                  | runs it
build | pkg-config pkgconf           | finds the libraries
build | libssl-dev                   | TLS, HMAC, digests
build | libjansson-dev               | JSON of configuration and records
build | libcurl4-openssl-dev         | HTTP requests
build | libpcre2-dev                 | patterns
build | zlib1g-dev                   | compressed messages
build | libsqlite3-dev               | apps in a file
build | libmariadb-dev               | apps in MySQL and MariaDB
build | libpq-dev                    | apps in PostgreSQL
build | libnats-dev                  | nodes that share events over NATS
build | libhiredis-dev               | nodes that share events over Redis
build | libllhttp-dev node-llhttp    | the HTTP parser (node-llhttp: its C sources)
test  | libcmocka-dev                | unit tests
test  | node                         | end-to-end tests
test  | npm                          | the client libraries they use
test  | ca-certificates              | npm and Maven fetch over TLS
test  | curl                         | an example publishes with it
test  | openssl                      | signs its request; certificates
test  | sqlite3                      | looks into a file of apps
test  | mariadb-server               | a store that the tests start
test  | postgresql                   | another
test  | pgbouncer                    | a pooler in front of it
test  | nats-server                  | a message system between nodes
test  | redis-server                 | another
test  | openjdk-17-jdk-headless default-jdk-headless | for those that are Java programs, and clients for Java
test  | maven                        | fetches them
test  | nginx                        | proxies in front
test  | caddy                        | another
test  | haproxy                      | another
test  | php-cli                      | examples in PHP
test  | python3-venv                 | clients for Python
test  | man-db                       | finds an installed manual page
test  | groff-base groff             | shows manual pages
test  | mandoc                       | checks them
test  | systemd                      | checks its units
test  | zsh                          | completions
test  | fish                         | completions
test  | chromium                     | clients in a browser
test  | prometheus                   | promtool, for the alert rules
test  | debhelper                    | the Debian package
test  | fakeroot                     | installs it without root
test  | lintian                      | checks it
test  | xdelta3                      | decodes deltas
deb   | debhelper                    | the Debian package
deb   | fakeroot                     | files that belong to root
fuzz  | clang                        | libFuzzer
fuzz  | libclang-rt-dev libclang-rt-14-dev | its run-time library
docs  | git                         | knows the files of the project
docs  | node                        | the examples, and what drives them
docs  | npm                         | the client libraries they use
docs  | ca-certificates             | npm fetches over TLS
docs  | curl                        | an example publishes with it
docs  | openssl                     | signs its request
docs  | chromium                    | shows the page
coverage | gcovr                     | counts the lines that gcov saw run
lint  | clang-format                 | the format of C
lint  | clang                        | the compile database of clang-tidy
lint  | clang-tidy                   | static analysis
lint  | cppcheck                     | more of it
lint  | shellcheck                   | shell scripts
lint  | universal-ctags              | the names of functions
lint  | node                         | ESLint, for JavaScript
lint  | npm                          | its packages
lint  | ca-certificates              | npm and pip fetch over TLS
lint  | python3-venv                 | hadolint, for the Dockerfile
'

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

offered() {
    [[ $(apt-cache policy "$1" 2>/dev/null) =~ 'Candidate: '[^\(] ]]
}

node_is_good() {
    command -v node >/dev/null && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ]
}

# Whether a row of the table is fulfilled, by any of its alternatives.
there() {
    local package
    for package in "$@"; do
        case $package in
        node) node_is_good && return ;;
        npm) command -v npm >/dev/null && return ;;
        *) installed "$package" && return ;;
        esac
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else
        echo "packages: this needs root, and there is no sudo. As root, run: $0 ${groups[*]}" >&2
        exit 1
    fi
}

groups=("$@")
if [ ${#groups[@]} = 0 ]; then
    echo "usage: $0 GROUP... (build, test, deb, docs, fuzz, coverage, lint)" >&2
    exit 2
fi

missing=()
while IFS='|' read -r group packages _; do
    group=${group// /}
    [[ " ${groups[*]} " == *" $group "* ]] || continue
    read -ra alternatives <<<"$packages"
    if there "${alternatives[@]}"; then continue; fi
    row="${alternatives[*]}"
    [[ " ${missing[*]-} " == *" $row "* ]] || missing+=("$row")
done < <(grep '|' <<<"$table")

if [ ${#missing[@]} = 0 ]; then
    echo 'packages: ok'
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "packages: no apt-get here; should something be missing, these are Debian's names: $(IFS=,; echo "${missing[*]}")"
    exit 0
fi

echo "packages: installing what is missing with apt-get: $(IFS=,; echo "${missing[*]}")"
if [[ " ${missing[*]} " == *' npm '* ]] && node_is_good && ! installed nodejs; then
    # Debian's npm would bring a second Node.js.
    echo "packages: $(command -v node) is there without npm; install the npm that belongs to it" >&2
    exit 1
fi
as_root apt-get -qq update
chosen=()
for row in "${missing[@]}"; do
    for package in ${row/%node/nodejs}; do
        if offered "$package"; then
            chosen+=("$package")
            continue 2
        fi
    done
    echo "packages: this release offers none of: $row" >&2
    exit 1
done
as_root apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${chosen[@]}"
if [[ " ${chosen[*]} " == *' nodejs '* ]] && ! node_is_good; then
    echo "packages: $(command -v node) $(node --version) hides the newer one that was installed; change PATH" >&2
    exit 1
fi
echo 'packages: ok'
