#!/usr/bin/env bash
# Which processes `pnpm dlx` makes for one server, and how they end (Linux).
#
# Packages: pnpm 12.21.0 (a native program since 12), @modelcontextprotocol/server-memory 2026.8.31.
# Expected: pnpm and the server below it in the process group that the host made, so that a signal to the group reaches both.
# Seen:     three processes in three groups: pnpm; the server, leader of a group of its own; and a shell that ignores INT, TERM and
#           HUP, in a third group, which waits for pnpm's end and then sends SIGKILL to the server's group. A SIGKILL to the host's
#           group reaches only pnpm, and the server is gone all the same a moment later.
# Why it matters: a host that signals or pages out by process group misses the server; one that counts the processes of a
# worker counts one more; one that waits until a group is empty goes on too early; a graceful stop is cut short by pnpm's end.
set -euo pipefail
for tool in node npm python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
[ -d /proc/self ] || { echo "needs Linux" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
echo '{ "private": true }' > package.json
npm install --prefix . --silent --no-audit --no-fund pnpm@12.21.0

cat > drive.py <<'EOF'
import json, os, signal, subprocess, sys, time
hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}}
pnpm = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                        start_new_session=True)
pnpm.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n")
pnpm.stdin.flush()
pnpm.stdout.readline()
def processes():
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, group, session = open(f"/proc/{pid}/stat").read().rsplit(")")[1].split()[:4]
            ignored = next(line for line in open(f"/proc/{pid}/status") if line.startswith("SigIgn"))
        except OSError:
            continue
        if int(session) == pnpm.pid and state != "Z":
            # Bit 14 is SIGTERM's.
            found[int(pid)] = (int(group) == int(pid), bool(int(ignored.split()[1], 16) & 1 << 14))
    return found
before = processes()
print(f"{len(before)} processes, {sum(leads for leads, _ in before.values())} groups,",
      f"{sum(ignores for _, ignores in before.values())} ignores SIGTERM;", end=" ")
os.killpg(pnpm.pid, signal.SIGKILL)
pnpm.wait(20)
deadline = time.monotonic() + 10
while processes() and time.monotonic() < deadline:
    time.sleep(0.05)
# Standard input is still open: the server did not end for lack of it.
print(f"after SIGKILL to the host's group {len(processes())}")
EOF
export HOME="$work/home" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"
seen=$(timeout 120 python3 drive.py node_modules/.bin/pnpm dlx @modelcontextprotocol/server-memory@2026.8.31)
expected="3 processes, 3 groups, 1 ignores SIGTERM; after SIGKILL to the host's group 0"
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
