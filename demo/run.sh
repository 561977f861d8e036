#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Record demo/wordcount.py, show what it kept and what it leaked. 'make demo' calls this
# with PYTHON and CC set, when everything is built.
set -eu
cd "$(dirname "$0")/.."
: "${PYTHON:=python3}" "${CC:=cc}"
work=build/demo
mkdir -p "$work"
include=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))')
"$CC" -O1 -g -fPIC -shared -I"$include" demo/_index.c -o "$work/_index.abi3.so"

say() { printf '\n$ %s\n' "$*"; }
say build/bin/neap run -o $work/wordcount.neap -- "$PYTHON" demo/wordcount.py
PYTHONPATH=$work build/bin/neap run --force -o "$work/wordcount.neap" -- \
    "$PYTHON" demo/wordcount.py
say build/bin/neap report $work/wordcount.neap --limit 3
build/bin/neap report "$work/wordcount.neap" --limit 3
say build/bin/neap leaks $work/wordcount.neap --limit 2
build/bin/neap leaks "$work/wordcount.neap" --limit 2

cat <<END

The first stack above is the leak that demo/_index.c has on purpose. Next, type:

  build/bin/neap report $work/wordcount.neap --metric allocated
  build/bin/neap report $work/wordcount.neap --metric live --at 0.05
  build/bin/neap sql $work/wordcount.neap "SELECT * FROM process"
  build/bin/neap run -- YOUR-PROGRAM
END
