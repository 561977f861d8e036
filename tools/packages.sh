#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install the Debian packages that a job needs and that are not there yet.
#
# usage: tools/packages.sh [-n] build|check|bench
#   -n      install nothing, only say what is missing
#   build   what 'make' and 'make demo' need
#   check   that, and what 'make check' needs
#   bench   that, and what 'make bench' compares with
#
# Packages that are there are left as they are. With nothing missing it says nothing,
# needs no network and takes a few milliseconds. Elsewhere than on Debian and its kin,
# or without root and sudo, it names what is missing and goes on only if the compiler
# finds what it needs.
set -euf

build='make gcc g++ pkg-config libc6-dev libsqlite3-dev libdw-dev libelf-dev
    libzstd-dev libunwind-dev python3 python3-dev'
check='git binutils clang libclang-rt-*-dev libcmocka-dev python3-venv sqlite3 perl
    procps util-linux xz-utils dwz mandoc gdb redis-server libjemalloc-dev libgoogle-perftools-dev
    libmimalloc-dev'
bench='heaptrack zstd valgrind redis-tools'

only_say=
if [ "${1:-}" = -n ]; then
    only_say=1
    shift
fi
case ${1:-} in
build) wanted=$build ;;
check) wanted="$build $check" ;;
bench) wanted="$build $check $bench" ;;
*) echo "usage: $0 [-n] build|check|bench" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
    # Not Debian: believe the compiler.
    for tool in make cc c++ python3; do
        command -v $tool >/dev/null 2>&1 || {
            echo "$0: $tool is missing; of Debian's names this needs:" $wanted >&2
            exit 1
        }
    done
    exit 0
fi

# Installed ones by name, virtual packages included.
have=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' 2>/dev/null |
    sed -n 's/^installed //p' | sed 's/([^)]*)//g; s/,/ /g' | tr '\n' ' ')
missing=
for package in $wanted; do
    case " $have " in
    *" "$package" "*) ;; # unquoted: a name may be a pattern
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ -n "$only_say" ]; then
    echo "$0: missing packages: apt-get install$missing" >&2
    exit 1
elif [ "$(id -u)" -eq 0 ]; then
    root=
elif command -v sudo >/dev/null 2>&1 && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
    root=sudo
else
    echo "$0: missing packages and no right to install them; as root run:" \
        "apt-get install -y$missing" >&2
    exit 1
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
install="$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
# The run-time of clang's sanitizers has clang's version in its name.
clang_rt() {
    for package in $missing; do
        [ "$package" = 'libclang-rt-*-dev' ] || { echo "$package"; continue; }
        version=$(apt-cache depends clang 2>/dev/null |
            sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p')
        echo "libclang-rt-${version:-N}-dev" # no such package: the list is not there yet
    done
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A list of packages as old as the machine may name files that are gone: fetch it anew
# once if the first try fails.
if ! $install $(clang_rt) >"$log" 2>&1 </dev/null; then
    if ! { $root apt-get update -qq && $install $(clang_rt); } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        echo "$0: apt-get could not install$missing" >&2
        exit 1
    fi
fi
