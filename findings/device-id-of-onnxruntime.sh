#!/usr/bin/env bash
# What `import onnxruntime` leaves in the home (Linux).
#
# Package: onnxruntime 1.32.0.
# Expected: a library that computes locally writes nothing when it is imported; no model is loaded, no session made.
# Seen:     the import alone makes ~/.cache/Microsoft/DeveloperTools/.onnxruntime with a SQLite database and a file `deviceid`, an
#           identifier which the next process finds again.
# Why it matters: servers that convert documents bring this library along (markitdown-mcp and pymupdf4llm-mcp do). With a home that
# tenants share they share an identifier, a home that is thrown away makes a new one each time, and whoever profiles or confines such a
# server sees it write, and ask what machine and container it runs in, for a reason that is not in the server's own code.
set -euo pipefail
for tool in uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
[ -d /proc/self ] || { echo "needs Linux" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
uv venv --quiet own
uv pip install --quiet --python own/bin/python onnxruntime==1.32.0
mkdir home
imported() {
    env -u XDG_CACHE_HOME HOME="$work/home" own/bin/python -c 'import onnxruntime; print(onnxruntime.__version__)'
}
[ -z "$(find home -type f)" ]
[ "$(imported)" = 1.32.0 ]
at=home/.cache/Microsoft/DeveloperTools/.onnxruntime
made=$(find home -type f -printf '%P\n' | sort)
echo "made: $made"
first=$(cat "$at/deviceid")
[ "$(imported)" = 1.32.0 ]
[ -n "$first" ] && [ "$(cat "$at/deviceid")" = "$first" ] || { echo "the identifier is not kept" >&2; exit 1; }
[ "$(head -c 15 "$at/onnxruntime.db")" = "SQLite format 3" ] || { echo "there is no database" >&2; exit 1; }
echo "as found: an identifier of ${#first} letters is kept"
