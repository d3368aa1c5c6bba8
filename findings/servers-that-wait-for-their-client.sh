#!/usr/bin/env bash
# When official servers end after their standard input has ended, while a request of theirs to the client is open.
#
# Packages: @modelcontextprotocol/server-filesystem and server-everything 2026.8.31, sdk 1.32.2 by their own dependencies.
# Expected: the end of input closes the session, so the open request fails and the server ends within half a second, as it does
#           when nothing is open.
# Seen:     both ask for the client's roots by themselves. Answered, they end at once. Not answered, they go on after the end of
#           input (still there after 5 s; the request's own limit of 60 s ends them), with nobody who could answer any more.
# Why it matters: a host that ends input and waits for a clean end waits for a minute for each such server, or has to kill it; it
# should answer or refuse what the server asks before it ends the input, for sessions without a client too.
set -euo pipefail
for tool in node npm python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true }' > package.json
npm install --prefix . --silent --no-audit --no-fund \
    @modelcontextprotocol/server-filesystem@2026.8.31 @modelcontextprotocol/server-everything@2026.8.31 \
    @modelcontextprotocol/sdk@1.32.2

cat > drive.py <<'EOF'
import json, subprocess, sys
def stop(answered):
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    def send(**message):
        server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        server.stdin.flush()
    hello = {"protocolVersion": "2025-11-25", "capabilities": {"roots": {}}, "clientInfo": {"name": "finding", "version": "1"}}
    send(id=1, method="initialize", params=hello)
    while True:
        message = json.loads(server.stdout.readline())
        if message.get("id") == 1 and "result" in message:
            send(method="notifications/initialized")
        if message.get("method") == "roots/list":
            break
    if answered:
        send(id=message["id"], error={"code": -32601, "message": "Method not found"})
        # Has been worked on once the ping behind it is answered.
        send(id=2, method="ping")
        while json.loads(server.stdout.readline()).get("id") != 2:
            pass
    server.stdin.close()
    try:
        return f"ended with {server.wait(5)}"
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
        return "still there"
print(f"answered: {stop(True)}; not answered: {stop(False)}")
EOF
seen=$(
    for name in filesystem everything; do
        arguments=()
        [ "$name" != filesystem ] || arguments=("$work")
        echo "$name: $(timeout 60 python3 drive.py "node_modules/.bin/mcp-server-$name" "${arguments[@]}")"
    done
)
expected='filesystem: answered: ended with 0; not answered: still there
everything: answered: ended with 0; not answered: still there'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
