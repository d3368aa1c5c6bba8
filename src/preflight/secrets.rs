//! Whether secrets and keys are where a config says.

use super::{Finding, Weight};
use crate::config::{AuthMode, Config, SecretSource};
use crate::tenancy;
use crate::worker;

/// Secrets of tenants, of clients upstream, and the keys of signatures, as far as they can be looked at without running
/// anything.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let AuthMode::Jwt(jwt) = &config.auth.mode
        && let Some(why) = tenancy::keys_problem(&jwt.keys)
    {
        let why = format!("`auth.jwks_file`: {why}; until it is there, every token is refused");
        findings.push(Finding::new(Weight::Failing, ["auth", "jwks_file"], why));
    }
    for (tenant, settings) in &config.tenants {
        for (name, source) in &settings.secrets {
            if let Some(why) = problem(source) {
                let why = format!("`tenants.{tenant}.secrets.{name}`: {why}");
                let key = ["tenants", tenant.as_str(), "secrets", name];
                findings.push(Finding::new(Weight::Failing, key, why));
            }
        }
    }
    for (name, server) in &config.servers {
        let oauth = server.oauth.as_ref();
        if let Some(why) = oauth.and_then(|it| problem(it.client_secret.as_ref()?)) {
            let why = format!("`servers.{name}.oauth.client_secret`: {why}");
            let key = ["servers", name.as_str(), "oauth", "client_secret"];
            findings.push(Finding::new(Weight::Failing, key, why));
        }
    }
    findings
}

/// Why a secret is not to be had.
fn problem(source: &SecretSource) -> Option<String> {
    match source {
        SecretSource::Command(argv) => no_program(argv),
        SecretSource::Env(_) | SecretSource::File(_) | SecretSource::Stored(_) => {
            tenancy::secret_problem(source)
        }
    }
}

/// That the program of a command that prints a secret is not there.
pub(super) fn no_program(argv: &[String]) -> Option<String> {
    let program = argv.first()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let found = worker::find_program(program, &path, &here);
    found.err().map(|error| error.to_string())
}
