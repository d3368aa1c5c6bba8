//! The variables of this environment that say where packages come from, and the servers that do not see them.

use super::check::Check;
use crate::config::Config;
use crate::preflight::{Weight, of_launches, seen_by_installs};

const WHAT: &str = "registries";

/// What installs see of this environment, and each server that would download its packages without; none where nothing is set.
pub(super) fn checks(config: &Config) -> Vec<Check> {
    let seen = seen_by_installs();
    if seen.is_empty() {
        return vec![];
    }
    let names = seen.join(", ");
    let found = format!("installs see {names}; workers only what `pool.pass_env` names");
    let findings = of_launches(config).into_iter();
    let findings = findings.filter(|it| seen.iter().any(|name| it.message.contains(name)));
    let lacking = findings.map(|finding| {
        let lost = match finding.weight {
            Weight::Fatal | Weight::Failing => "the server, until it is mended",
            Weight::Odd => "packages of your own registry: another may have others by their names",
        };
        let remedy = "name the variables in `pool.pass_env`, or set them in the server's `env`";
        Check::lacks(WHAT, finding.message, lost, remedy)
    });
    std::iter::once(Check::ok(WHAT, found))
        .chain(lacking)
        .collect()
}
