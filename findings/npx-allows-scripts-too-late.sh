#!/bin/sh
# npx 12 never runs the install scripts of a package that it once ran without allowing them.
#
# npm 12.2.2, esbuild 0.25.12, whose script puts the native program in place of a shim of JavaScript.
#
#   npx --yes esbuild@0.25.12 --version
#   npx --yes --allow-scripts=esbuild esbuild@0.25.12 --version
#
# Expected: the second line runs the script, as it says. Seen: it finds the folder that the first has made in _npx, and runs what is there, the
# shim, with exit status 0 and no word on it; and so with every line after. In an empty cache the second line alone runs the script.
# The folder has to be removed (npm cache npx rm).
#
# Ends with 0 as long as that is so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export npm_config_update_notifier=false
npm install --prefix "$dir/npm" --silent --no-audit --no-fund npm@12.2.2
PATH="$dir/npm/node_modules/.bin:$PATH"
cd "$dir"
is_shim() { head -c 2 "$1"/_npx/*/node_modules/esbuild/bin/esbuild | grep -q '#!'; }
export npm_config_cache="$dir/once"
npx --yes esbuild@0.25.12 --version
is_shim "$dir/once"
npx --yes --allow-scripts=esbuild esbuild@0.25.12 --version
is_shim "$dir/once"
echo "allowed later: still the shim"
export npm_config_cache="$dir/fresh"
npx --yes --allow-scripts=esbuild esbuild@0.25.12 --version
if is_shim "$dir/fresh"; then
    echo "allowed at once: the shim too"
    exit 1
fi
echo "allowed at once: the native program"
