#!/bin/sh
# Installs the official SDKs of both generations, and programs made of them, that the tests use as
# clients, into target/peers. Does nothing when they are there already.
set -eu
cd "$(dirname "$0")/../.."
from=tests/peers
into=target/peers
mkdir -p "$into/node"

# Modules are found beside the script that imports them.
cp "$from"/*.mjs "$into/node/"

wanted=$(cat "$from/requirements.txt" "$from/requirements2.txt" "$from/requirements3.txt" "$from/package.json" "$from/package-lock.json" | sha256sum)
[ "$(cat "$into/installed" 2>/dev/null || true)" = "$wanted" ] && exit 0

python3 -m venv "$into/venv"
"$into/venv/bin/pip" install --quiet --disable-pip-version-check -r "$from/requirements.txt"
python3 -m venv "$into/venv2"
"$into/venv2/bin/pip" install --quiet --disable-pip-version-check -r "$from/requirements2.txt"
python3 -m venv "$into/venv3"
"$into/venv3/bin/pip" install --quiet --disable-pip-version-check -r "$from/requirements3.txt"
cp "$from/package.json" "$from/package-lock.json" "$into/node/"
npm ci --prefix "$into/node" --silent --no-audit --no-fund --omit-lockfile-registry-resolved
# Its binary is put in place by a script of the package, which some settings of npm switch off.
[ -x "$into/node/node_modules/node/bin/node" ] || npm rebuild --prefix "$into/node" --silent node
printf '%s\n' "$wanted" > "$into/installed"
