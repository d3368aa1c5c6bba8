#!/usr/bin/env bash
# What the connection waits for that makes an HTTP server's table of descriptors grow.
#
# Packages: @modelcontextprotocol/server-everything 2026.8.31, by node 22 or later, on Linux (seen on 6.18).
# Expected: one connection is let in like any other, in under a millisecond.
# Seen:     the kernel doubles a full table, at 256 descriptors, 512 and so on, and in a process with threads, as node
#           always is, the thread that opens the descriptor sleeps meanwhile: 6 to 19 ms on an idle host, the median of
#           all connections being 0.65 ms. The server's loop serves nobody in that time.
#             connections      median 0.64 ms
#             256 -> 512       14.1 ms
#             512 -> 1024      14.6 ms
# Why it matters: a server with threads stands still for all sessions each time that a wave of clients passes such a number. One that
#           opens a high descriptor once and closes it, before it serves, never does: a table does not shrink.
set -euo pipefail
for tool in node npm; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
[ "$(uname)" = Linux ] || { echo "needs Linux" >&2; exit 2; }
work=$(mktemp -d)
server=
clean_up() {
    [ -z "$server" ] || kill "$server" 2> /dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
cd "$work"
echo '{ "private": true }' > package.json
npm install --silent --no-audit --no-fund --ignore-scripts @modelcontextprotocol/server-everything@2026.8.31

cat > probe.mjs <<'EOF'
import net from 'node:net';
import { readFileSync } from 'node:fs';
const [port, pid] = process.argv.slice(2).map(Number);
const size = () => Number(/FDSize:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
const held = [];
function connect() {
    return new Promise((answered, failed) => {
        const began = process.hrtime.bigint();
        const socket = net.connect(port, '127.0.0.1', () => socket.write('GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n'));
        socket.once('data', () => answered(Number(process.hrtime.bigint() - began) / 1e6));
        socket.once('error', failed);
        held.push(socket);
    });
}
const took = [], grown = [];
let before = size();
for (let count = 0; count < 600; count += 1) {
    const ms = await connect();
    took.push(ms);
    const now = size();
    if (now !== before) grown.push({ from: before, to: now, ms });
    before = now;
}
took.sort((a, b) => a - b);
const median = took[300];
console.log(`median ${median.toFixed(2)} ms; ${grown.map((it) => `${it.from} -> ${it.to}: ${it.ms.toFixed(1)} ms`).join(', ')}`);
const stands = grown.filter((it) => it.from >= 256 && it.ms > 4 * median && it.ms > 3);
process.exit(stands.length >= 2 ? 0 : 1);
EOF

for _ in 1 2 3; do
    port=$(node -e 'const s = require("node:net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
    PORT=$port node node_modules/.bin/mcp-server-everything streamableHttp > log 2>&1 &
    server=$!
    until node -e 'require("node:net").connect(+process.argv[1], "127.0.0.1").on("connect", () => process.exit(0)).on("error", () => process.exit(1))' "$port"; do
        kill -0 "$server" || { cat log; exit 2; }
        sleep 0.2
    done
    node probe.mjs "$port" "$server" || { echo "changed: a growing table is not waited for" >&2; exit 1; }
    kill "$server"
    wait "$server" 2> /dev/null || true
    server=
done
echo "as found"
