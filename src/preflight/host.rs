//! What this host lacks of what a config names.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::{Finding, Weight};
use crate::config::{Config, SecretSource, Server};
use crate::front::Tls;
use crate::ids::ServerName;
use crate::store::{self, Vault};
use crate::tenancy;
use crate::worker;

/// All of it, what concerns everyone first.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut missing = Vec::new();
    let mut fatal = |key: [&str; 2], why: String| {
        missing.push(Finding::new(Weight::Fatal, key, why));
    };
    if let Some(why) = config.state.key.as_ref().and_then(key_problem) {
        fatal(["state", "key"], format!("`state.key`: {why}"));
    }
    if let Some(why) = config.state.key.as_ref().and_then(shared_key) {
        let key = ["state", "key"];
        missing.push(Finding::new(Weight::Odd, key, why));
    }
    let mut fatal = |key: [&str; 2], why: String| {
        missing.push(Finding::new(Weight::Fatal, key, why));
    };
    if let Some(error) = config
        .http
        .tls
        .as_ref()
        .and_then(|tls| Tls::load(tls).err())
    {
        fatal(["http", "tls"], error.to_string());
    }
    if let Some(why) = config.audit.file.as_deref().and_then(unwritable) {
        fatal(["audit", "file"], why);
    }
    for name in store::tenant_names(&config.state.dir) {
        if config.tenants.contains_key(name.as_str()) {
            fatal(["tenants", &name], tenancy::in_both(&name));
        }
    }
    for (name, server) in &config.servers {
        missing.extend(program(config, name, server));
        missing.extend(cwd(config, name, server));
    }
    for (tenant, settings) in &config.tenants {
        for (name, source) in &settings.secrets {
            if let SecretSource::File(path) = source
                && let Err(error) = File::open(path)
            {
                let path = path.display();
                let why = format!("`tenants.{tenant}.secrets.{name}`: {path}: {error}");
                let key = ["tenants", tenant.as_str(), "secrets", name];
                missing.push(Finding::new(Weight::Failing, key, why));
            }
        }
    }
    missing
}

/// Why the file with the key of the secrets in the state folder is none that may be used; of a source that is no file
/// nothing is said.
pub fn state_key(source: &SecretSource) -> Option<String> {
    let SecretSource::File(path) = source else {
        return None;
    };
    let shown = path.display();
    // One that cannot be looked at cannot be read either, which is told then.
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        format!(
            "{shown} can be read by others (mode {mode:04o}), and with it every secret in the state folder: chmod 600 {shown}"
        )
    })
}

/// That a group can read the key, as where it is handed to a container.
fn shared_key(source: &SecretSource) -> Option<String> {
    let SecretSource::File(path) = source else {
        return None;
    };
    let shown = path.display();
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0 && mode & 0o007 == 0).then(|| {
        format!(
            "`state.key`: the group of {shown} can read it (mode {mode:04o}), and with it every secret in the state folder: chmod 600 {shown}, unless only stdiopool is in that group"
        )
    })
}

/// What is wrong with the key of the secrets in the state folder.
fn key_problem(source: &SecretSource) -> Option<String> {
    if let Some(why) = state_key(source) {
        return Some(why);
    }
    let text = match source {
        SecretSource::File(path) => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let shown = path.display();
                return Some(format!(
                    "{shown}: {error} (make one with: openssl rand -hex 32)"
                ));
            }
        },
        SecretSource::Env(name) => match std::env::var(name) {
            Ok(text) => text,
            Err(_) => return Some(format!("the variable {name} is not set")),
        },
        // Run only where it is needed.
        SecretSource::Command(_) | SecretSource::Stored(_) => return None,
    };
    let error = Vault::new(&text.into()).err()?;
    Some(error.to_string())
}

/// Why the audit log cannot be written there.
fn unwritable(file: &Path) -> Option<String> {
    let why = match OpenOptions::new().append(true).open(file) {
        Ok(_) => return None,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = file.parent().unwrap_or(Path::new("/"));
            access(folder, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
            error
        }
        Err(error) => error,
    };
    let shown = file.display();
    Some(format!(
        "the audit log {shown} (`audit.file`) cannot be written: {why}"
    ))
}

fn program(config: &Config, name: &ServerName, server: &Server) -> Option<Finding> {
    let own_path = server.env.get("PATH").map(|path| path.as_literal());
    let path = match own_path {
        // It is known when a worker is started.
        Some(None) => return None,
        Some(Some(path)) => path.to_owned(),
        None => std::env::var("PATH").unwrap_or_default(),
    };
    // None is a mistake of the file.
    if server.command.is_empty() {
        return None;
    }
    let program = tenancy::program(server, config);
    let found = worker::find_program(&program, &path, &config.base_dir);
    let error = found.err()?;
    let why = format!("`servers.{name}.command`: {error}");
    let key = ["servers", name.as_str(), "command"];
    Some(Finding::new(Weight::Failing, key, why))
}

fn cwd(config: &Config, name: &ServerName, server: &Server) -> Option<Finding> {
    let text = server.cwd.as_ref()?.as_literal()?;
    let folder = config.base_dir.join(Path::new(text));
    (!folder.is_dir()).then(|| {
        let why = format!(
            "`servers.{name}.cwd`: there is no folder {}; create it, or change `cwd`",
            folder.display()
        );
        let key = ["servers", name.as_str(), "cwd"];
        Finding::new(Weight::Failing, key, why)
    })
}
