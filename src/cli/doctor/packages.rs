//! What is worth knowing of installed packages.

use super::check::Check;
use crate::config::Config;
use crate::launch::packages::written::{self, LeftBehind};
use crate::launch::packages::{Cache, InstalledPackage};

const WHAT: &str = "packages";

/// One check for each package of which there is something to say.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let known = Cache::installed(&config.package_cache(&config.state.dir));
    let left = written::all_left_behind(&config.state.dir.join("data"));
    let left = left.into_iter().map(|LeftBehind { tenant, server, change }| {
        Check::lacks(
            WHAT,
            format!("server {server} of tenant {tenant}: {}", change.told()),
            "what a server kept beside its code: its launcher does not take that over to another version",
            "put the files back, or `launch = \"auto\"`, which takes them over",
        )
    });
    known.iter().flat_map(told).chain(left).collect()
}

fn told(package: &InstalledPackage) -> Vec<Check> {
    let name = format!("{} {}", package.package, package.version);
    let mut checks = Vec::new();
    if let Some(unscripted) = &package.unscripted {
        checks.push(Check::lacks(
            WHAT,
            format!("{name}: {}", unscripted.told()),
            "what they build or download; a server may not start without it",
            &format!(
                "{}, and run `stdiopool prefetch`",
                unscripted.remedy("NAME")
            ),
        ));
    }
    for downloaded in &package.left.downloaded {
        let found = format!("{name}: its install scripts downloaded {downloaded}");
        checks.push(Check::ok(WHAT, found));
    }
    if !package.left.in_home.is_empty() {
        let left = package.left.in_home.join(", ");
        checks.push(Check::lacks(
            WHAT,
            format!("{name}: its install scripts left {left} in HOME"),
            "no worker looks there: each HOME is a tenant's",
            "`launch = \"as-is\"` for its servers, so that each tenant has an install of its own",
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::packages::{Downloaded, Left, Unscripted};

    #[test]
    fn what_was_downloaded_or_did_not_run_is_told() {
        let package = InstalledPackage {
            package: "npm a".to_owned(),
            version: "1.0.0".to_owned(),
            unscripted: Some(Unscripted {
                packages: vec!["b@2.0.0".to_owned()],
                why: "npm 12.0.0 runs only those that are allowed".to_owned(),
            }),
            left: Left {
                downloaded: vec![Downloaded {
                    variable: "PLAYWRIGHT_BROWSERS_PATH".to_owned(),
                    folder: "downloads/playwright".into(),
                    items: vec!["chromium-1".to_owned()],
                    bytes: 4_000_000,
                }],
                in_home: vec![".cache/x".to_owned()],
            },
        };
        insta::assert_snapshot!(super::super::render(&told(&package)), @r#"
        lacks  packages  npm a 1.0.0: install scripts of b@2.0.0 did not run: npm 12.0.0 runs only those that are allowed
                         lost: what they build or download; a server may not start without it
                         do:   if you trust them, set npm_config_allow_scripts = "b" in `servers.NAME.env`, and run `stdiopool prefetch`
        ok     packages  npm a 1.0.0: its install scripts downloaded chromium-1 (3907 KiB, PLAYWRIGHT_BROWSERS_PATH)
        lacks  packages  npm a 1.0.0: its install scripts left .cache/x in HOME
                         lost: no worker looks there: each HOME is a tenant's
                         do:   `launch = "as-is"` for its servers, so that each tenant has an install of its own
        "#);
    }
}
