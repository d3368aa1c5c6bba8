//! What `serve`, or the first call, would find missing on this host.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::config::{Config, SecretSource, Server};
use crate::front::Tls;
use crate::ids::ServerName;
use crate::store::Vault;
use crate::tenancy;
use crate::worker;

/// Everything that is missing, each with its key.
pub(super) fn missing(config: &Config) -> Vec<String> {
    let mut missing = Vec::new();
    missing.extend(config.state.key.as_ref().and_then(state_key));
    if let Some(tls) = &config.http.tls {
        missing.extend(Tls::load(tls).err().map(|error| error.to_string()));
    }
    for (name, server) in &config.servers {
        missing.extend(program(config, name, server));
        missing.extend(cwd(config, name, server));
    }
    for (tenant, settings) in &config.tenants {
        for (name, source) in &settings.secrets {
            if let SecretSource::File(path) = source
                && let Err(error) = std::fs::File::open(path)
            {
                let path = path.display();
                missing.push(format!(
                    "`tenants.{tenant}.secrets.{name}`: {path}: {error}"
                ));
            }
        }
    }
    missing
}

/// What is wrong with the key of the secrets in the state folder.
fn state_key(source: &SecretSource) -> Option<String> {
    let text = match source {
        SecretSource::File(path) => {
            let shown = path.display();
            let read = std::fs::metadata(path).and_then(|meta| {
                let text = std::fs::read_to_string(path)?;
                Ok((meta.permissions().mode() & 0o777, text))
            });
            match read {
                Err(error) => {
                    return Some(format!(
                        "`state.key`: {shown}: {error} (make one with: openssl rand -hex 32)"
                    ));
                }
                Ok((mode, _)) if mode & 0o077 != 0 => {
                    return Some(format!(
                        "`state.key`: {shown} can be read by others (mode {mode:04o}), and with it every secret in the state folder: chmod 600 {shown}"
                    ));
                }
                Ok((_, text)) => text,
            }
        }
        SecretSource::Env(name) => match std::env::var(name) {
            Ok(text) => text,
            Err(_) => return Some(format!("`state.key`: the variable {name} is not set")),
        },
        // Run only where it is needed.
        SecretSource::Command(_) | SecretSource::Stored(_) => return None,
    };
    let error = Vault::new(&text.into()).err()?;
    Some(format!("`state.key`: {error}"))
}

fn program(config: &Config, name: &ServerName, server: &Server) -> Option<String> {
    let own_path = server.env.get("PATH").map(|path| path.as_literal());
    let path = match own_path {
        // It is known when a worker is started.
        Some(None) => return None,
        Some(Some(path)) => path.to_owned(),
        None => std::env::var("PATH").unwrap_or_default(),
    };
    let program = tenancy::program(server, config);
    let found = worker::find_program(&program, &path, &config.base_dir);
    let error = found.err()?;
    Some(format!("`servers.{name}.command`: {error}"))
}

fn cwd(config: &Config, name: &ServerName, server: &Server) -> Option<String> {
    let text = server.cwd.as_ref()?.as_literal()?;
    let folder = config.base_dir.join(Path::new(text));
    (!folder.is_dir()).then(|| {
        format!(
            "`servers.{name}.cwd`: there is no folder {}; create it, or change `cwd`",
            folder.display()
        )
    })
}
