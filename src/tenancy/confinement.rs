//! How a server's processes are kept apart: as whom they run, what they see of the files, which hosts they reach, what of them is
//! recorded. Follows from the config and from whom they are started for; the worker carries it out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::render::Values;
use crate::config::template::Template;
use crate::config::{Arg, Config, Isolation, Server};
use crate::ids::{ServerName, TenantId};
use crate::launch::{NamedPath, Observed, RunsAs, Sandbox, Strict};
use crate::profile::RecordBook;
use crate::protocol::{Failure, Reason};
use crate::store::{StateDir, Users};

/// The facts that decide how processes are kept apart.
#[derive(Debug)]
pub(super) struct Confinement {
    config: Arc<Config>,
    state: Arc<StateDir>,
    /// As whom tenants' servers run, where each has a user of its own.
    pub(super) users: Option<Arc<Users>>,
    /// Where servers are recorded.
    pub(super) records: Arc<RecordBook>,
}

impl Confinement {
    /// With no users of tenants, and no records.
    pub(super) fn new(config: Arc<Config>, state: Arc<StateDir>) -> Self {
        Self {
            config,
            state,
            users: None,
            records: Arc::default(),
        }
    }

    /// As whom the processes of a tenant run; `None` where they are not kept apart. One command is hosted for whoever
    /// runs stdiopool, with whose files it works.
    pub(super) async fn runs_as(
        &self,
        tenant: &TenantId,
        server: &Server,
    ) -> Result<Option<RunsAs>, Failure> {
        if server.sandbox == Isolation::None || self.config.only_server.is_some() {
            return Ok(None);
        }
        if server.min_idle > 0 {
            return Ok(self.runs_as_nobody(server));
        }
        let Some(users) = &self.users else {
            return Ok(Some(RunsAs::Supervisor));
        };
        let user = users.of(tenant).await.map_err(|error| {
            tracing::error!(%tenant, %error, "a tenant has no user for its servers");
            let why = "there is no user for this tenant's servers (the operator finds the cause in the log)";
            Failure::new(Reason::Internal, why)
        })?;
        Ok(Some(RunsAs::User(user)))
    }

    /// As whom processes run that are no tenant's when they start.
    pub(super) fn runs_as_nobody(&self, server: &Server) -> Option<RunsAs> {
        if server.sandbox == Isolation::None || self.config.only_server.is_some() {
            return None;
        }
        Some(match &self.users {
            Some(users) => RunsAs::OneOf(Arc::clone(users.user_pool())),
            None => RunsAs::Supervisor,
        })
    }

    /// What keeps the processes of a server apart from others; `shared`: folders that all of them may use.
    pub(super) fn sandbox(
        &self,
        name: &ServerName,
        server: &Server,
        values: &Values<'_>,
        runs_as: RunsAs,
        shared: Vec<PathBuf>,
    ) -> Sandbox {
        // While a server is profiled, its state folder is in that which is served otherwise.
        let state = self.config.profiled.as_deref();
        let mut hidden = vec![state.unwrap_or(self.state.path()).to_owned()];
        // Where all workers run as one user, files of secrets are closed by nothing else.
        let secrets = match runs_as {
            RunsAs::Supervisor => self.state.secret_root().ok(),
            RunsAs::User(_) | RunsAs::OneOf(_) | RunsAs::Nobody(_) => {
                Some(values.secret_root).filter(|root| !root.as_os_str().is_empty())
            }
        };
        hidden.extend(secrets.map(Path::to_owned));
        let tenant = self.config.tenants.get(values.tenant);
        let own = tenant.and_then(|tenant| tenant.networks.get(name));
        Sandbox {
            runs_as,
            hidden,
            shared,
            named: named(name, server, &self.config.base_dir),
            strict: strict_of(server),
            network: own.unwrap_or(&server.network).clone(),
            observed: self.observed(name, server),
        }
    }

    /// How a server is recorded, if it is.
    fn observed(&self, name: &ServerName, server: &Server) -> Option<Observed> {
        let is_recorded = self.records.is_of_all() || server.sandbox == Isolation::Observe;
        is_recorded.then(|| Observed {
            record: self.records.of(name),
            strict: Strict {
                readable: server.readable.clone(),
                writable: server.writable.clone(),
            },
        })
    }
}

/// What a strict server sees more than others.
pub(super) fn strict_of(server: &Server) -> Option<Strict> {
    (server.sandbox == Isolation::Strict).then(|| Strict {
        readable: server.readable.clone(),
        writable: server.writable.clone(),
    })
}

/// Paths that a server's table names literally and that are there: what it is started with has to be within its reach.
pub(super) fn named(name: &ServerName, server: &Server, base: &Path) -> Vec<NamedPath> {
    let mut named = Vec::new();
    let mut add = |key: &str, path: PathBuf| {
        if path.exists() {
            let key = format!("servers.{name}.{key}");
            named.push(NamedPath { path, key });
        }
    };
    if server.command.contains('/') {
        add("command", base.join(&server.command));
    }
    for arg in &server.args {
        let Arg::Always(template) = arg else { continue };
        if let Some(text) = template.as_literal().filter(|text| text.starts_with('/')) {
            add("args", PathBuf::from(text));
        }
    }
    if let Some(text) = server.cwd.as_ref().and_then(Template::as_literal) {
        add("cwd", base.join(text));
    }
    named
}
