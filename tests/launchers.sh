#!/bin/sh
# Puts the launchers that tests/it/launchers.rs compares with into target/launchers, from their registries, once.
set -eu
cd "$(dirname "$0")/.."
into=target/launchers
mkdir -p "$into"
for one in npm11:npm@11 npm12:npm@12 pnpm10:pnpm@10 pnpm11:pnpm@11 pnpm12:pnpm@12 bun:bun@1; do
    name=${one%%:*}
    [ -d "$into/$name/node_modules/.bin" ] && continue
    mkdir -p "$into/$name"
    echo '{ "private": true }' > "$into/$name/package.json"
    npm install --prefix "$into/$name" --silent --no-audit --no-fund "${one#*:}"
done
if [ ! -x "$into/pipx/bin/pipx" ]; then
    python3 -m venv "$into/pipx"
    "$into/pipx/bin/pip" install --quiet pipx==1.18.4
fi
