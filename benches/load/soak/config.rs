//! The pool.toml of a soak, whose limits are others at each reload.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rand::Rng;
use rand::rngs::SmallRng;

use super::super::Result;
use super::super::hostile::HOSTILE;
use super::super::served::tenant_table;

/// Tenants from this number on are those whose answers are checked; those before it flood.
pub(crate) const FIRST_TENANT: usize = HOSTILE + 1;
/// The server that is called, the one whose sandbox is strict, and the one of which callers store configs.
pub(crate) const CALLED: [&str; 2] = ["called", "strict"];
pub(crate) const STORED: &str = "stored";

/// Where a run listens, and how many tenants it has.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) front: u16,
    pub(crate) admin: u16,
    pub(crate) tenants: usize,
    /// In the environment of the supervisor and of every process of a worker.
    pub(crate) mark: String,
    /// Whether this host can have strict servers.
    pub(crate) has_strict: bool,
}

/// The secret that a tenant's processes have and no other's.
pub(crate) fn secret(tenant: usize) -> String {
    format!(
        "secret-of-{tenant}-{:08x}",
        tenant.wrapping_mul(0x9e37_79b1)
    )
}

/// How processes of a tenant begin each answer.
pub(crate) fn identity(tenant: usize) -> String {
    format!("tenant{tenant} {}", secret(tenant))
}

/// Writes the secrets and the key, which stay for the run.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn write_secrets(dir: &Path, setting: &Setting) -> Result<()> {
    let private = |name: String, text: String| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(dir.join(name))?.write_all(text.as_bytes())
    };
    private("state.key".to_owned(), "3c".repeat(32))?;
    for tenant in 0..FIRST_TENANT + setting.tenants {
        private(format!("secret{tenant}"), secret(tenant))?;
    }
    Ok(())
}

/// Writes a pool.toml with limits that are chosen anew.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write(dir: &Path, setting: &Setting, random: &mut SmallRng) -> Result<()> {
    let Setting {
        front, admin, mark, ..
    } = setting;
    let faulty = env!("CARGO_BIN_EXE_faulty-server");
    let mut any = |from: u32, to: u32| random.random_range(from..=to);
    let mut toml = format!(
        "[http]\nlisten = \"127.0.0.1:{front}\"\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[auth]\nmode = \"token\"\n\
         [state]\nkey = {{ file = \"state.key\" }}\n\
         [pool]\nmax_workers = {}\nmax_starting = {}\nmax_workers_per_tenant = {}\nhibernate_after = \"{}s\"\nidle_timeout = \"{}s\"\n\
         queue_timeout = \"{}s\"\ndrain_timeout = \"5s\"\nsession_timeout = \"5m\"\n",
        any(8, 24),
        any(1, 4),
        any(3, 8),
        any(1, 4),
        any(3, 12),
        any(10, 30),
    );
    let limits = format!(
        "limits = {{ memory = \"{}MiB\", pids = {}, open_files = {}, disk = \"{}MiB\" }}\n",
        any(96, 256),
        any(16, 64),
        any(64, 512),
        any(16, 64),
    );
    let whose = "env = { WHOSE = \"${tenant.id} ${secret.own}\", SOAK = ";
    for (name, sandbox) in CALLED.into_iter().zip(["standard", "strict"]) {
        let sandbox = if setting.has_strict {
            sandbox
        } else {
            "standard"
        };
        toml.push_str(&format!(
            "[servers.{name}]\ncommand = {faulty:?}\nargs = [\"--watchdog\", \"100000\"]\nsandbox = \"{sandbox}\"\n{limits}max_requests = {}\n{whose}{mark:?} }}\n",
            any(20_000, 200_000)
        ));
    }
    toml.push_str(&format!(
        "[servers.{STORED}]\ncommand = \"stdiopool\"\nargs = [\"demo-server\"]\nclient_config = [\"label\"]\n\
         [servers.{STORED}.config]\ntype = \"object\"\nproperties.label = {{ type = \"string\" }}\n"
    ));
    // What a neighbour floods with.
    for (name, mode) in [("floods", "floods"), ("deaf", "deaf")] {
        toml.push_str(&format!(
            "[servers.{name}]\ncommand = {faulty:?}\nargs = [\"--mode\", \"{mode}\"]\nenv = {{ SOAK = {mark:?} }}\n"
        ));
    }
    toml.push_str(&format!(
        "[servers.greedy]\ncommand = {faulty:?}\nargs = [\"--mode\", \"floods\"]\nshare = \"session\"\nenv = {{ SOAK = {mark:?} }}\n\
         limits = {{ memory = \"128MiB\", pids = 64, disk = \"32MiB\" }}\n\
         [servers.fragile]\ncommand = {faulty:?}\nargs = [\"--mode\", \"${{config.mode}}\"]\nshare = \"session\"\nclient_config = [\"mode\"]\n\
         env = {{ SOAK = {mark:?} }}\n\
         [servers.fragile.config]\ntype = \"object\"\nproperties.mode = {{ type = \"string\", default = \"none\" }}\n"
    ));
    for tenant in 0..FIRST_TENANT + setting.tenants {
        toml.push_str(&tenant_table(tenant));
        toml.push_str(&format!("secrets.own = {{ file = \"secret{tenant}\" }}\n"));
    }
    // Whole at once: a reload may read it at any moment.
    let new = dir.join("pool.toml.new");
    std::fs::write(&new, toml)?;
    Ok(std::fs::rename(&new, dir.join("pool.toml"))?)
}
