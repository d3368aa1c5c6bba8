//! What this host lacks of what a config names.

use std::fs::OpenOptions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{AccessFlags, access, geteuid};

use super::finding::{Finding, Weight};
use super::{folders, secrets};
use crate::config::{AuthMode, Config, Globs, Isolation, SecretSource, Server, resembles};
use crate::egress::Network;
use crate::front::Tls;
use crate::ids::ServerName;
use crate::store::{self, Vault};
use crate::tenancy::{self, DryRun};
use crate::worker;

/// All that is found of the host, what concerns everyone first.
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
    if let Some(why) = folders::state(config) {
        fatal(["state", "dir"], why);
    }
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
    let stored = store::tenant_names(&config.state.dir);
    for name in &stored {
        if config.tenants.contains_key(name.as_str()) {
            fatal(["tenants", name], tenancy::in_both(name));
        }
    }
    for (name, server) in &config.servers {
        missing.extend(program(config, name, server));
        missing.extend(folders::of_server(config, name, server));
        missing.extend(isolation(name, server));
        missing.extend(not_there(name, server));
        missing.extend(not_writable(config, name, server));
    }
    missing.extend(writable_by_all(config));
    missing.extend(out_of_reach(config));
    missing.extend(secrets::findings(config));
    missing.extend(aimless_rules(config, &stored));
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
    let meta = std::fs::metadata(path).ok()?;
    if meta.is_dir() {
        return Some(format!("{shown} is a folder; name the file with the key"));
    }
    let mode = meta.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        format!(
            "{shown} can be read by others (mode {mode:04o}), and with it every secret in the state folder: chmod 600 {shown}"
        )
    })
}

/// A warning that a group can read the key, as where it is handed to a container.
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

/// The problem with the key of the secrets in the state folder.
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
        SecretSource::Command(argv) => {
            return secrets::no_program(argv).map(|error| error.to_string());
        }
        SecretSource::Stored(_) => return None,
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
        // The server's own path is known when a worker is started.
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

/// Servers that may write to the packages of all tenants, though stdiopool is no root, whose servers at least see these
/// read-only.
fn writable_by_all(config: &Config) -> Vec<Finding> {
    if geteuid().is_root() {
        return vec![];
    }
    let open = config.without_sandbox().map(|name| {
        let why = format!(
            "`servers.{name}.sandbox` is \"none\", and stdiopool is not root: this server may write to the installed packages that all tenants run, and to what else is in the state folder; each package is compared with what was installed before a start from it (run stdiopool as root, or take \"none\" off)"
        );
        Finding::new(Weight::Odd, ["servers", name.as_str(), "sandbox"], why)
    });
    open.collect()
}

/// The isolation that a server is to have and that this host cannot give.
fn isolation(name: &ServerName, server: &Server) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut lacks = |key: &str, value: &str, why: worker::IsolationUnavailable| {
        let why = format!(
            "`servers.{name}.{key}` = {value} cannot be had on this host: {why} (`stdiopool doctor` says what it takes); the server is refused rather than started without"
        );
        found.push(Finding::new(
            Weight::Failing,
            ["servers", name.as_str(), key],
            why,
        ));
    };
    if server.sandbox == Isolation::Strict
        && let Err(why) = worker::can_be_strict()
    {
        lacks("sandbox", "\"strict\"", why);
    }
    if server.sandbox == Isolation::Observe
        && let Err(why) = worker::can_be_recorded(nix::unistd::geteuid().is_root())
    {
        lacks("sandbox", "\"observe\"", why);
    }
    if server.network == Network::Off
        && let Err(why) = worker::can_have_no_network()
    {
        lacks("network", "\"off\"", why);
    }
    if server.network.allowed().is_some()
        && let Err(why) = worker::can_have_list_of_hosts()
    {
        lacks("network", "a list of hosts", why);
    }
    found
}

/// What a strict server is to see, and is not there.
fn not_there(name: &ServerName, server: &Server) -> Vec<Finding> {
    let keys = [
        ("readable", &server.readable),
        ("writable", &server.writable),
    ];
    let all = keys
        .iter()
        .flat_map(|(key, paths)| paths.iter().map(move |path| (*key, path)));
    let missing = all.filter(|(_, path)| !path.exists());
    let found = missing.map(|(key, path)| {
        let why = format!("`servers.{name}.{key}`: {} is not there", path.display());
        // Without what it is to write to it is not started; without what it is to read it may do.
        let weight = match key {
            "writable" => Weight::Failing,
            _ => Weight::Odd,
        };
        Finding::new(weight, ["servers", name.as_str(), key], why)
    });
    found.collect()
}

/// Folders that a strict server is to write to, and that are neither a tenant's user's nor open to all.
fn not_writable(config: &Config, name: &ServerName, server: &Server) -> Vec<Finding> {
    use std::os::unix::fs::MetadataExt;
    let Ok(users) = tenancy::users_of_host(config) else {
        return vec![];
    };
    let is_closed = |path: &&std::path::PathBuf| {
        path.metadata().is_ok_and(|meta| {
            let is_of = |id: u32, bits: u32| users.contains(&id) && meta.mode() & bits == bits;
            let is_open = meta.mode() & 0o003 == 0o003;
            !is_open && !is_of(meta.uid(), 0o300) && !is_of(meta.gid(), 0o030)
        })
    };
    let closed = server.writable.iter().filter(is_closed).map(|path| {
        let shown = path.display();
        let why = format!("`servers.{name}.writable`: {shown} cannot be written by any tenant's user ({}-{}): give it to the one who is to (`ls -ln` of its data folder shows the number; chgrp NUMBER {shown}; chmod g+rwx {shown})", users.start(), users.end());
        Finding::new(Weight::Odd, ["servers", name.as_str(), "writable"], why)
    });
    closed.collect()
}

/// What servers name and would not come to as the users that they run as here.
fn out_of_reach(config: &Config) -> Vec<Finding> {
    let Ok(users) = tenancy::users_of_host(config) else {
        return vec![];
    };
    let dry_run = DryRun::of(config);
    let closed = config.servers.iter().filter_map(|(name, server)| {
        let spec = dry_run.spec(name, server);
        spec.sandbox.as_ref()?;
        let (key, error) = worker::out_of_reach(&spec, *users.start())?;
        let (key, why) = match &key {
            // The error names its key.
            Some(key) => (
                key.rsplit('.').next().unwrap_or_default(),
                error.to_string(),
            ),
            None => ("command", format!("`servers.{name}.command`: {error}")),
        };
        let key = ["servers", name.as_str(), key];
        Some(Finding::new(Weight::Failing, key, why))
    });
    closed.collect()
}

/// Rules of the policy about tenants that there are none of. Others may come: by `stdiopool tenant add`, or from wherever
/// else their names are; so that what resembles one is told, and of tokens, whose tenants are known, what matches none.
fn aimless_rules(config: &Config, stored: &[String]) -> Vec<Finding> {
    let of_file = config.tenants.keys().map(|name| name.as_str());
    let tenants: Vec<_> = of_file.chain(stored.iter().map(String::as_str)).collect();
    let are_known = matches!(config.auth.mode, AuthMode::Token) && !tenants.is_empty();
    let mut findings = Vec::new();
    for rule in &config.policy.rules {
        let globs = rule.tenants.iter().flat_map(|globs| globs.texts());
        for text in globs {
            let glob = Globs::new(vec![text.clone()]);
            if glob.is_ok_and(|glob| tenants.iter().any(|name| glob.matches(name))) {
                continue;
            }
            let close = tenants.iter().find(|name| resembles(text, name));
            let hint = match close {
                Some(name) => format!("did you mean \"{name}\"?"),
                None if are_known => {
                    "until there is one, the rule does nothing for it (`stdiopool tenant list` says which there are)".to_owned()
                }
                None => continue,
            };
            let name = &rule.name;
            let why =
                format!("`policy.{name}.tenants` has \"{text}\", which matches no tenant; {hint}");
            findings.push(Finding::new(Weight::Odd, ["policy", name, "tenants"], why));
        }
    }
    findings
}
