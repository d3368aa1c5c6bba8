//! Whether secrets and keys are where a config says.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};

use super::finding::{Finding, Weight, path};
use crate::config::{AuthMode, Config, SecretSource, SecretUse};
use crate::store::Vault;
use crate::tenancy::{self, SecretError, Secrets};
use crate::worker::{self, SpawnError};

/// Commands that run beside each other.
const AT_ONCE: usize = 4;

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
    for (name, source) in &config.tracing.headers {
        if let Some(why) = problem(source) {
            let why = format!("`tracing.headers.{name}`: {why}");
            let key = ["tracing", "headers", name];
            findings.push(Finding::new(Weight::Failing, key, why));
        }
    }
    for (tenant, settings) in &config.tenants {
        for (name, source) in &settings.secrets {
            let Some(why) = problem(source) else {
                continue;
            };
            let uses = config.servers.values().map(|it| it.use_of_secret(name));
            // One that no server names yet is to be there for those that will.
            let has_default = why.is_unset() && uses.max() == Some(SecretUse::HasDefault);
            let (weight, what_then) = match has_default {
                true => (Weight::Odd, "; templates that name it take their default"),
                false => (Weight::Failing, ""),
            };
            let why = format!("`tenants.{tenant}.secrets.{name}`: {why}{what_then}");
            let key = ["tenants", tenant.as_str(), "secrets", name];
            findings.push(Finding::new(weight, key, why));
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

/// Why a secret is not to be had, as far as that can be known without running anything.
fn problem(source: &SecretSource) -> Option<Problem> {
    match source {
        SecretSource::Command(argv) => no_program(argv).map(Problem::NoProgram),
        SecretSource::Env(_) | SecretSource::File(_) | SecretSource::Stored(_) => {
            tenancy::secret_problem(source).map(Problem::NoSecret)
        }
    }
}

/// Why a secret is not to be had.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    NoProgram(SpawnError),
    #[error(transparent)]
    NoSecret(SecretError),
}

impl Problem {
    fn is_unset(&self) -> bool {
        matches!(self, Self::NoSecret(why) if why.is_unset())
    }
}

/// What the commands print that print secrets, where that is none. Runs each once, a few at a time: for whoever asks what the
/// first call will come to.
///
/// # Cancel-Safety
/// A dropped call kills the commands that it had started.
pub async fn printed(config: &Config) -> Vec<Finding> {
    let found = stream::iter(commands(config)).map(|(argv, keys)| async move {
        let source = SecretSource::Command(argv.clone());
        // Told without running anything.
        let printed = match no_program(argv) {
            Some(_) => None,
            None => Some(Secrets::of_operator(&source).await),
        };
        let of_each = keys.into_iter().filter_map(move |(weight, key)| {
            let why = match (printed.as_ref()?, weight) {
                (Err(why), _) => why.to_string(),
                // The key of the state folder, which has a form of its own.
                (Ok(printed), Weight::Fatal) => Vault::new(printed).err()?.to_string(),
                (Ok(_), Weight::Failing | Weight::Odd) => return None,
            };
            let why = format!("`{}`: {why}", key.join("."));
            Some(Finding::at(weight, key, why))
        });
        stream::iter(of_each)
    });
    found.buffered(AT_ONCE).flatten().collect().await
}

/// Each command that prints secrets, once, with the keys under which it stands.
fn commands(config: &Config) -> BTreeMap<&Vec<String>, Vec<(Weight, Vec<String>)>> {
    let of_state = config.state.key.iter();
    let of_state = of_state.map(|source| (source, Weight::Fatal, path(["state", "key"])));
    let of_tenants = config.tenants.iter().flat_map(|(tenant, settings)| {
        settings.secrets.iter().map(move |(name, source)| {
            let key = path(["tenants", tenant.as_str(), "secrets", name]);
            (source, Weight::Failing, key)
        })
    });
    let of_servers = config.servers.iter().filter_map(|(name, server)| {
        let source = server.oauth.as_ref()?.client_secret.as_ref()?;
        let key = path(["servers", name.as_str(), "oauth", "client_secret"]);
        Some((source, Weight::Failing, key))
    });
    let mut commands = BTreeMap::<_, Vec<_>>::new();
    for (source, weight, key) in of_state.chain(of_tenants).chain(of_servers) {
        if let SecretSource::Command(argv) = source {
            commands.entry(argv).or_default().push((weight, key));
        }
    }
    commands
}

/// The error where the program of a command that prints a secret is not there.
pub(super) fn no_program(argv: &[String]) -> Option<SpawnError> {
    let program = argv.first()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let found = worker::find_program(program, &path, &here);
    found.err()
}
