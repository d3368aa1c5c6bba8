#!/bin/sh
# npx takes the package for the value of a `--no-…` flag that stands right before it, and the package's flags for its own.
#
# npm 11.21.2 and 12.2.2, semver 7.7.2. Any `--no-…`: --no-audit, --no-fund, --no-color, --no-progress, --no-update-notifier.
#
#   npx --yes --no-audit semver@7.7.2 --increment 1.2.3
#
# Expected 1.2.4, as without --no-audit. Seen: 1.2.3 with npm 11, which keeps `--increment` for itself without a word on stdout; with npm 12
# EUNKNOWNCONFIG, "Unknown cli flag: --increment". With another flag between them (`--no-audit --yes`) it is 1.2.4.
# Why: npx-cli.js looks for the first word that is neither a flag nor a flag's value, to put `--` before it, and knows `audit` as
# a switch but not `no-audit`.
#
# Ends with 0 as long as that is so.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export npm_config_cache="$dir/cache" npm_config_update_notifier=false
for version in 11.21.2 12.2.2; do
    npm install --prefix "$dir/$version" --silent --no-audit --no-fund "npm@$version"
done
cd "$dir"
run() { PATH="$dir/$1/node_modules/.bin:$PATH" npx --yes "$2" "$3" semver@7.7.2 --increment 1.2.3 2> "$dir/stderr" || true; }
for version in 11.21.2 12.2.2; do
    apart=$(run "$version" --no-audit --yes)
    echo "$version, another flag between: $apart"
    [ "$apart" = 1.2.4 ]
done
seen=$(run 11.21.2 --yes --no-audit)
echo "11.21.2, right before the package: $seen"
[ "$seen" = 1.2.3 ]
seen=$(run 12.2.2 --yes --no-audit)
echo "12.2.2, right before the package: $seen$(grep EUNKNOWNCONFIG "$dir/stderr")"
[ -z "$seen" ]
grep -q EUNKNOWNCONFIG "$dir/stderr"
