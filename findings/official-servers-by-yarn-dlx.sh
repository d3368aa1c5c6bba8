#!/usr/bin/env bash
# Whether the official TypeScript servers can be started by `yarn dlx`.
#
# Packages: @yarnpkg/cli-dist 4.18.1; @modelcontextprotocol/server-everything, server-filesystem, server-memory and
# server-sequential-thinking 2026.8.31.
# Expected: all of them start, as they do by npx, pnpm dlx and bunx; yarn's own lines precede theirs on standard output.
# Seen:     only server-everything starts. The three others import zod without declaring it as a dependency: elsewhere it is there by
#           way of the SDK, but dlx uses Plug'n'Play, which refuses ("tried to access zod, but it isn't declared"): status 1.
# Why it matters: to a client this is a server that ends before its first answer; a host that tells launchers apart by name only,
# or installs a package itself in place of the launcher, sees such a line fail or work depending on the layout it chose.
set -euo pipefail
for tool in node npm; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/yarn" "$work/empty"
echo '{ "private": true }' > "$work/yarn/package.json"
npm install --prefix "$work/yarn" --silent --no-audit --no-fund @yarnpkg/cli-dist@4.18.1
export HOME="$work/home" YARN_GLOBAL_FOLDER="$work/global" YARN_ENABLE_TELEMETRY=0
# The registry that npm is set up with.
[ -n "${YARN_NPM_REGISTRY_SERVER:-}" ] || YARN_NPM_REGISTRY_SERVER=$(npm config get registry)
export YARN_NPM_REGISTRY_SERVER
cd "$work/empty"

hello='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"finding","version":"1"}}}'
seen=$(
    for name in everything filesystem memory sequential-thinking; do
        arguments=()
        [ "$name" != filesystem ] || arguments=("$work/empty")
        status=0
        # Standard input ends after the request; the answer is written before the server ends.
        printf '%s\n' "$hello" | timeout 120 "$work/yarn/node_modules/.bin/yarn" dlx -q \
            "@modelcontextprotocol/server-$name@2026.8.31" "${arguments[@]}" > "$work/out" 2> "$work/err" || status=$?
        if grep -q '"serverInfo"' "$work/out"; then
            echo "$name: answers"
        elif grep -q 'tried to access zod, but it isn.t declared' "$work/err"; then
            echo "$name: zod is not declared, status $status"
        else
            echo "$name: neither, status $status"
        fi
    done
)
expected='everything: answers
filesystem: zod is not declared, status 1
memory: zod is not declared, status 1
sequential-thinking: zod is not declared, status 1'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
