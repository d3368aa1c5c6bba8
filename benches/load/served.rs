//! `stdiopool serve` with a config of its own, in a folder of its own.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Result;
use super::connection::Endpoint;
use super::process::{Process, in_session, stdiopool_in_session};

/// The demo server, as a table of pool.toml has it.
pub(crate) const DEMO: &str = "command = \"stdiopool\"\nargs = [\"demo-server\"]\n";

/// What is in its pool.toml.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// Keys of `[pool]`, a line each.
    pub(crate) pool: String,
    /// Keys of `[servers.demo]`.
    pub(crate) server: String,
    /// Tenants with a token each; with 0, nobody says who they are (`auth.mode = "none"`).
    pub(crate) tenants: usize,
}

/// It ends, and its folder goes, with this value.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) process: Process,
    _dir: tempfile::TempDir,
    /// Host and port of the front door.
    pub(crate) front: String,
    /// The admin API's list of workers.
    pub(crate) workers: String,
}

impl Served {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// If it does not, with what it said.
    pub(crate) fn start(config: &Config) -> Result<Self> {
        Self::start_binary(None, config)
    }

    /// Starts that binary, or the one under test, and waits until it listens.
    ///
    /// # Errors
    /// If it does not, with what it said.
    pub(crate) fn start_binary(binary: Option<&Path>, config: &Config) -> Result<Self> {
        let mode = if config.tenants > 0 { "token" } else { "none" };
        let mut toml = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"{mode}\"\n[pool]\n{}\n[servers.demo]\n{}\n",
            config.pool, config.server
        );
        for tenant in 0..config.tenants {
            toml.push_str(&tenant_table(tenant));
        }
        Self::serve_binary(binary, &toml)
    }

    /// Serves that pool.toml, whose listeners are on ports of the system's choice, and waits until it listens.
    ///
    /// # Errors
    /// If it does not, with what it said.
    pub(crate) fn serve(toml: &str) -> Result<Self> {
        Self::serve_binary(None, toml)
    }

    fn serve_binary(binary: Option<&Path>, toml: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("pool.toml"), toml)?;
        let mut command = match binary {
            Some(binary) => in_session(binary.as_os_str()),
            None => stdiopool_in_session(),
        };
        command
            .arg("serve")
            .current_dir(dir.path())
            .env("NO_COLOR", "1");
        let mut process = Process::start(&mut command)?;
        let [front, admin] = process.announced(["MCP at http://", "admin at http://"])?;
        let front = front.split('/').next().unwrap_or_default().to_owned();
        Ok(Self {
            process,
            _dir: dir,
            front,
            workers: format!("http://{admin}api/v1/workers"),
        })
    }

    /// Where a tenant with a token finds the server.
    pub(crate) fn endpoint(&self, tenant: usize) -> Endpoint {
        Endpoint {
            address: self.front.clone(),
            path: "/demo/mcp".to_owned(),
            token: Some(token(tenant)),
        }
    }

    /// Where a tenant whom nobody asks for a token finds it.
    pub(crate) fn open_endpoint(&self, tenant: usize) -> Endpoint {
        Endpoint {
            address: self.front.clone(),
            path: format!("/t/tenant{tenant}/demo/mcp"),
            token: None,
        }
    }
}

/// A tenant's table of pool.toml, with its token.
pub(crate) fn tenant_table(tenant: usize) -> String {
    let hash = Sha256::digest(token(tenant));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[tenants.tenant{tenant}]\ntokens = [\"sha256:{hash}\"]\n")
}

/// Of a stdiopool that only this program reaches, for as long as it measures.
pub(crate) fn token(tenant: usize) -> String {
    format!("of-the-benchmark-{tenant}")
}
