#!/usr/bin/env bash
# Which launchers take their registry from npm_config_registry, the variable that npm's whole family is set up by.
#
# Packages: npm 11.21.0, pnpm 12.21.0, bun 1.4.5. The registry is a server of this script, which has nothing and counts.
# Expected: npx, pnpm dlx and bunx all ask the registry that npm_config_registry names.
# Seen:     npx and bunx do. pnpm 12 does not heed the variable at all; it does heed pnpm_config_registry.
# Why it matters: a host that sends installs through a mirror, or keeps them from the public registry, by that variable has done
# nothing for lines of pnpm: they go to the public registry without a word.
set -euo pipefail
for tool in node npm python3; do command -v "$tool" > /dev/null || { echo "needs $tool" >&2; exit 2; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for one in npm:npm@11.21.0 pnpm:pnpm@12.21.0 bun:bun@1.4.5; do
    mkdir "${one%%:*}"
    echo '{ "private": true }' > "${one%%:*}/package.json"
    npm install --prefix "${one%%:*}" --silent --no-audit --no-fund "${one#*:}"
done

cat > drive.py <<'EOF'
import os, signal, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
asked = threading.Event()
class Registry(BaseHTTPRequestHandler):
    def do_GET(self):
        if "server-memory" in self.path:
            asked.set()
        self.send_response(404)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_):
        pass
registry = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=registry.serve_forever, daemon=True).start()
variable, *command = sys.argv[1:]
kept = {key: value for key, value in os.environ.items() if not key.lower().endswith("config_registry")}
# Standard input is at its end, so a server that starts after all ends by itself.
launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                            start_new_session=True,
                            env=kept | {variable: f"http://127.0.0.1:{registry.server_port}/"})
try:
    launcher.wait(90)
except subprocess.TimeoutExpired:
    os.killpg(launcher.pid, signal.SIGKILL)
print("asked" if asked.is_set() else "not asked")
EOF
server=@modelcontextprotocol/server-memory@2026.8.31
run() {
    # A home and caches of its own for each line.
    local own="$work/$1-$2"
    mkdir "$own"
    echo "$1, $2: $(HOME="$own" XDG_CACHE_HOME="$own" XDG_DATA_HOME="$own" npm_config_cache="$own" python3 drive.py "$2" "${@:3}")"
}
seen=$(
    run npx npm_config_registry npm/node_modules/.bin/npx -y $server
    run bunx npm_config_registry bun/node_modules/.bin/bunx $server
    run pnpm npm_config_registry pnpm/node_modules/.bin/pnpm dlx $server
    run pnpm pnpm_config_registry pnpm/node_modules/.bin/pnpm dlx $server
)
expected='npx, npm_config_registry: asked
bunx, npm_config_registry: asked
pnpm, npm_config_registry: not asked
pnpm, pnpm_config_registry: asked'
if [ "$seen" != "$expected" ]; then
    printf 'expected:\n%s\nseen:\n%s\n' "$expected" "$seen" >&2
    exit 1
fi
printf '%s\nas found\n' "$seen"
