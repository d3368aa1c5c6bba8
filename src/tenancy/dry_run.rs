//! A start as it will be, as far as it is known before anyone calls: for whoever says beforehand what it will come to.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use super::confinement::{named, strict_of};
use super::environment::{Environment, Folders, InstallEnvironment};
use super::resolver::program;
use crate::config::{Config, DEFAULT_TENANT, Isolation, Server};
use crate::ids::{ServerName, TenantId};
use crate::launch::{LaunchSpec, ProcessLimits, Redactor, RunsAs, Sandbox, SecretFiles};
use crate::store;

/// Starts under one config, in the environment of this process.
#[derive(Debug)]
pub struct DryRun<'c> {
    config: &'c Config,
    environment: Environment,
    tenant: TenantId,
}

impl<'c> DryRun<'c> {
    /// Starts for the first tenant of that config.
    pub fn of(config: &'c Config) -> Self {
        let first = config.tenants.keys().next().cloned();
        Self {
            config,
            environment: Environment::new(config, std::env::vars_os()),
            tenant: first.unwrap_or_else(|| TenantId::new(DEFAULT_TENANT)),
        }
    }

    /// The environment in which the package of a server is installed.
    pub fn installs(&self, server: &Server) -> InstallEnvironment {
        self.environment.of_installs(server)
    }

    /// What keeps the processes of a server apart; as whom they run is not known.
    fn sandbox(&self, name: &ServerName, server: &Server) -> Option<Sandbox> {
        (server.sandbox != Isolation::None && self.config.only_server.is_none()).then(|| Sandbox {
            runs_as: RunsAs::Supervisor,
            hidden: vec![self.config.state.dir.clone()],
            shared: self.environment.shared(),
            named: named(name, server, &self.config.base_dir),
            strict: strict_of(server),
            network: server.network.clone(),
            observed: None,
        })
    }

    /// The launch of a server, without arguments. A variable whose value differs between tenants is there and empty, and
    /// so is a working directory.
    pub fn spec(&self, name: &ServerName, server: &Server) -> LaunchSpec {
        let state = &self.config.state.dir;
        let folders = Folders {
            data: store::data_dir(state, &self.tenant, name),
            ..Folders::default()
        };
        let is_same_for_all = server.min_idle > 0;
        let common = match is_same_for_all {
            true => self.environment.without_folders(),
            false => self.environment.of(&folders),
        };
        let common = common.into_iter();
        let mut env: BTreeMap<String, SecretString> =
            common.map(|(name, value)| (name, value.into())).collect();
        for (name, template) in &server.env {
            let value = template.as_literal().unwrap_or_default();
            env.insert(name.clone(), value.to_owned().into());
        }
        let cwd = match &server.cwd {
            Some(template) => template
                .as_literal()
                .map_or_else(PathBuf::new, |text| self.config.base_dir.join(text)),
            None if is_same_for_all => PathBuf::new(),
            None => folders.data,
        };
        LaunchSpec {
            tenant: None,
            program: program(server, self.config),
            args: vec![],
            env,
            cwd,
            scratch: None,
            roots: vec![],
            limits: ProcessLimits::default(),
            may_gain_privileges: false,
            sandbox: self.sandbox(name, server),
            folders: vec![],
            packages: PathBuf::new(),
            writable: vec![],
            read_only: vec![],
            secret_files: SecretFiles::default(),
            sourced: BTreeMap::new(),
            redactor: Redactor::default(),
            token: None,
        }
    }
}
