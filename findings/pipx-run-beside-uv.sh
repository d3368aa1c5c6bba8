#!/usr/bin/env bash
# What `pipx run` becomes on a host that also has uv (Linux).
#
# Packages: pipx 1.18.4, uv 0.13.9, mcp-server-time 2026.10.19.
# Expected: pipx makes an environment in its own cache and replaces itself by the server: one process, started by pipx.
# Seen:     so only where uv is not on PATH. Where it is, pipx replaces itself by `uv tool run`, which stays as the server's parent:
#           two processes, the environment in uv's cache, nothing of pipx's.
# Why it matters: the same line has another process tree, another cache and uv's settings (indexes, Python versions, offline)
# depending on a program that merely is on PATH; a host that knows where pipx keeps environments looks in the wrong place.
set -euo pipefail
for tool in uv python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
[ -d /proc/self ] || { echo "needs Linux" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
uv venv --quiet --seed pipx
uv pip install --quiet --python pipx pipx==1.18.4
uv venv --quiet uv
uv pip install --quiet --python uv uv==0.13.9
mkdir with without
ln -s ../uv/bin/uv with/uv
# What the server's own start line calls.
for tool in realpath dirname; do
    ln -s "$(command -v "$tool")" "with/$tool"
    ln -s "$(command -v "$tool")" "without/$tool"
done

cat > drive.py <<'EOF'
import json, os, subprocess, sys
hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "finding", "version": "1"}}
pipx = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                        start_new_session=True)
pipx.stdin.write(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}) + "\n")
pipx.stdin.flush()
pipx.stdout.readline()
def count():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            state, _, _, session = open(f"/proc/{pid}/stat").read().rsplit(")")[1].split()[:4]
        except OSError:
            continue
        if int(session) == pipx.pid and state != "Z":
            yield pid
print(f"{len(list(count()))} processes, the first is {os.path.basename(os.readlink(f'/proc/{pipx.pid}/exe')).rstrip('.0123456789')}")
pipx.stdin.close()
pipx.wait(20)
EOF
python=$(python3 -c "import sys; print(sys.executable)")
seen=$(
    for place in without with; do
        # Only what is named here is on PATH, so that no other uv is found.
        tree=$(timeout 120 env PATH="$work/$place" HOME="$work/home-$place" PIPX_HOME="$work/pipx-home-$place" \
            XDG_CACHE_HOME="$work/cache-$place" "$python" drive.py \
            pipx/bin/pipx run mcp-server-time==2026.10.19 --local-timezone=UTC)
        echo "$place uv: $tree"
    done
)
expected='without uv: 1 processes, the first is python
with uv: 2 processes, the first is uv'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
