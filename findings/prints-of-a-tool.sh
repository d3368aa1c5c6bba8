#!/usr/bin/env bash
# Where the print of a tool's code goes, and what a program that it starts inherits, in the two generations of the Python SDK.
#
# Packages: mcp 1.30.0, mcp 2.3.0.
# Expected: a print lands between the protocol's lines on standard output, whatever the version; hosts must skip such lines.
# Seen:     so with 1.30. With 2.3 the server moves the protocol to descriptors of its own: descriptor 1 is a copy of standard
#           error, descriptor 0 is /dev/null. Prints, and the output of programs that tools start, turn up on standard error.
# Why it matters: the standard error of a 2.x server holds what its tools print, a user's data too, so a host that shows or
# keeps standard error (as a "log") shows that; and a line that is no JSON on standard output tells an older server.
set -euo pipefail
for tool in uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for version in 1.30.0 2.3.0; do
    uv venv --quiet "py$version"
    uv pip install --quiet --python "py$version" "mcp==$version"
done

cat > server.py <<'EOF'
import subprocess
try:
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:
    from mcp.server.fastmcp import FastMCP as Server
server = Server("finding")
@server.tool()
def loud() -> str:
    print("printed by the tool", flush=True)
    subprocess.run(["echo", "printed by a program"])
    return "done"
server.run("stdio")
EOF
cat > drive.py <<'EOF'
import json, subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open("errors", "w"), text=True)
def send(**message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()
hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}}
send(id=1, method="initialize", params=hello)
server.stdout.readline()
send(method="notifications/initialized")
send(id=2, method="tools/call", params={"name": "loud"})
lines = []
while not lines or '"id":2' not in lines[-1]:
    lines.append(server.stdout.readline())
server.stdin.close()
server.wait(20)
def found(lines):
    return sorted(line.split()[-1] for line in lines if line.startswith("printed"))
print("standard output:", *found(lines), "- standard error:", *found(open("errors")))
EOF
seen=$(for version in 1.30.0 2.3.0; do echo "$version $(timeout 60 python3 drive.py "py$version/bin/python" server.py)"; done)
expected='1.30.0 standard output: program tool - standard error:
2.3.0 standard output: - standard error: program tool'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
