#!/usr/bin/env bash
# What `uv python find --quiet` prints.
#
# Package: uv 0.13.9 (itself installed from its package).
# Expected: --quiet leaves out warnings and notes; the path that was asked for is the command's result and stays.
# Seen:     nothing at all is printed, and the status is 0; without --quiet the path is there, alone on standard output.
# Why it matters: a script that finds the interpreter of a server this way, and adds --quiet to keep its log clean, goes on with
# an empty path; checking the status does not help.
set -euo pipefail
for tool in uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
uv venv --quiet own
uv pip install --quiet --python own uv==0.13.9
python3 -m venv --without-pip some
loud=$(own/bin/uv python find --no-config "$work/some/bin/python" 2> /dev/null)
status=0
quiet=$(own/bin/uv python find --no-config --quiet "$work/some/bin/python" 2>&1) || status=$?
seen="without: ${loud#"$work"/}; with: \"$quiet\", status $status"
expected='without: some/bin/python; with: "", status 0'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
