#!/usr/bin/env bash
# What a launcher does with SIGTERM, and what its own end says when the kernel kills the server below it (Linux, dash as sh).
#
# Packages: npm 11.21.0, npm 12.2.2, pnpm 12.21.0, bun 1.4.5, uv 0.13.9; the server is
# @modelcontextprotocol/server-memory 2026.8.31, for uvx mcp-server-time 2026.10.19.
# Expected: npx and uvx hand SIGTERM on and end with 143; pnpm and bun leave the server as an orphan; a server killed by SIGKILL
#           shows as status 137 (1 from pnpm), while only a launcher that was itself killed ends by the signal.
# Seen:     not so.
#             npx 11, 12   SIGTERM ends npx and its sh; the server goes on until its input ends. A killed server: status 137.
#             pnpm 12      nothing is left. A killed server: pnpm kills itself with the same signal.
#             bunx 1.4     nothing is left. A killed server: bunx kills itself with the same signal.
#             uvx          nothing is left; status 143. A killed server: status 137.
# Why it matters: a host that stops the process it started must look for what is left of npx's tree; and it can't tell from an
# end by SIGKILL whether the launcher or the server was killed (so, for one, which of both ran out of memory).
set -euo pipefail
for tool in node npm uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
[ -d /proc/self ] || { echo "needs Linux" >&2; exit 2; }
case $(readlink -f "$(command -v sh)") in *dash) ;; *) echo "needs dash as sh" >&2; exit 2 ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for one in npm11:npm@11.21.0 npm12:npm@12.2.2 pnpm:pnpm@12.21.0 bun:bun@1.4.5; do
    mkdir "${one%%:*}"
    echo '{ "private": true }' > "${one%%:*}/package.json"
    npm install --prefix "${one%%:*}" --silent --no-audit --no-fund "${one#*:}"
done
uv venv --quiet uv
uv pip install --quiet --python uv uv==0.13.9

cat > drive.py <<'EOF'
import json, os, signal, subprocess, sys, time
command = sys.argv[1:]
hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}}
hello = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n"
def start():
    launcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                text=True, start_new_session=True)
    launcher.stdin.write(hello)
    launcher.stdin.flush()
    launcher.stdout.readline()
    return launcher
def stat(pid):
    with open(f"/proc/{pid}/stat") as file:
        state, _, _, session = file.read().rsplit(")")[1].split()[:4]
    return state, int(session)
def servers(session):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, of = stat(pid)
            line = open(f"/proc/{pid}/cmdline").read().split("\0")
        except OSError:
            continue
        # The server is the one whose interpreter runs a file; launchers have the package's name as a word.
        if of == session and state != "Z" and any(os.sep in word and "mcp" in word or word.endswith("dist/index.js") for word in line[1:2]):
            found.append(int(pid))
    return found
def ended(launcher):
    status = launcher.wait(20)
    return f"signal {-status}" if status < 0 else f"status {status}"
launcher = start()
os.kill(launcher.pid, signal.SIGTERM)
how = ended(launcher)
time.sleep(1.5)
left = servers(launcher.pid)
launcher.stdin.close()
time.sleep(1.5)
print(f"SIGTERM: {how}, servers left {len(left)}, then {len(servers(launcher.pid))};", end=" ")
for pid in servers(launcher.pid):
    os.kill(pid, signal.SIGKILL)
launcher = start()
(server,) = servers(launcher.pid)
os.kill(server, signal.SIGKILL)
print("server killed:", ended(launcher))
EOF
export HOME="$work/home" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"
server=@modelcontextprotocol/server-memory@2026.8.31
seen=$(
    for one in "npx 11:npm11/node_modules/.bin/npx -y $server" "npx 12:npm12/node_modules/.bin/npx -y $server" \
        "pnpm dlx:pnpm/node_modules/.bin/pnpm dlx $server" "bunx:bun/node_modules/.bin/bunx $server" \
        "uvx:uv/bin/uvx --quiet mcp-server-time==2026.10.19 --local-timezone=UTC"; do
        # shellcheck disable=SC2086 # the command is meant to be split
        echo "${one%%:*}: $(timeout 120 python3 drive.py ${one#*:})"
    done
)
expected='npx 11: SIGTERM: signal 15, servers left 1, then 0; server killed: status 137
npx 12: SIGTERM: signal 15, servers left 1, then 0; server killed: status 137
pnpm dlx: SIGTERM: signal 15, servers left 0, then 0; server killed: signal 9
bunx: SIGTERM: signal 15, servers left 0, then 0; server killed: signal 9
uvx: SIGTERM: status 143, servers left 0, then 0; server killed: status 137'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
