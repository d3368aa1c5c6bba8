#!/bin/sh
# The variable that allows install scripts to npx makes `npm ci` and `npm install` fail, whatever is installed.
#
# npm 11.21.2 and 12.2.2, ms 2.1.3 (which has no scripts).
#
#   npm_config_allow_scripts=anything npm ci
#
# Expected: as with any other setting, the variable is heeded as the same line in .npmrc is. Seen: EALLOWSCRIPTS, "--allow-scripts is not
# allowed in project-scoped installs": variables count as the command line. From .npmrc the same value is taken. So a variable set for a
# whole container, so that npx runs what it must, ends every project's install in it, of npm 11 too.
#
# Ends with 0 as long as that is so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export npm_config_cache="$dir/cache" npm_config_update_notifier=false
for version in 11.21.2 12.2.2; do
    npm install --prefix "$dir/$version" --silent --no-audit --no-fund "npm@$version"
    npm="$dir/$version/node_modules/.bin/npm"
    project="$dir/project-$version"
    mkdir "$project"
    cd "$project"
    echo '{ "name": "x", "version": "1.0.0", "dependencies": { "ms": "2.1.3" } }' > package.json
    "$npm" install --silent
    if npm_config_allow_scripts=anything "$npm" ci > "$dir/out" 2>&1; then
        echo "$version: npm ci succeeded"
        exit 1
    fi
    grep 'EALLOWSCRIPTS' "$dir/out"
    echo 'allow-scripts=anything' > .npmrc
    "$npm" ci --silent
    echo "$version: refused as a variable, taken from .npmrc"
    cd "$dir"
done
