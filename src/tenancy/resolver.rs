//! From a tenant's config to a launch spec.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::client_config::ClientConfig;
use super::environment::Environment;
use super::principal::Principal;
use super::render::Values;
use super::secrets::Secrets;
use super::values::{Schema, escaped, refused};
use crate::config::template::Reference;
use crate::config::{Config, Server};
use crate::ids::{ServerName, TenantId};
use crate::launch::{LaunchSpec, ProcessLimits, Redactor};
use crate::protocol::{Failure, Reason};
use crate::store::StateDir;

/// Why a config cannot be used, though it reads well.
#[derive(Debug, thiserror::Error)]
#[error("`servers.{server}.config` cannot be used as a JSON Schema: {why}")]
pub struct ResolverError {
    server: ServerName,
    why: String,
}

/// Works out what to start for whom, under one config.
#[derive(Debug)]
pub struct Resolver {
    config: Arc<Config>,
    state: Arc<StateDir>,
    schemas: BTreeMap<ServerName, Schema>,
    environment: Environment,
    secrets: Secrets,
}

impl Resolver {
    /// For the servers and tenants of that config.
    ///
    /// # Errors
    /// When a server's config schema cannot be compiled.
    pub fn new(config: Arc<Config>, state: Arc<StateDir>) -> Result<Self, ResolverError> {
        let mut schemas = BTreeMap::new();
        for (name, server) in &config.servers {
            let Some(schema) = &server.schema else {
                continue;
            };
            let compiled = Schema::new(schema).map_err(|why| ResolverError {
                server: name.clone(),
                why,
            })?;
            schemas.insert(name.clone(), compiled);
        }
        Ok(Self {
            environment: Environment::new(&config, |name| std::env::var_os(name)),
            config,
            state,
            schemas,
            secrets: Secrets::default(),
        })
    }

    /// What to start for a caller, what it sets itself, and the session it is in.
    ///
    /// # Errors
    /// [`Reason::NotFound`] for an unknown server, [`Reason::ConfigInvalid`] when the config does
    /// not fit or a needed value is missing; nothing is started then.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the commands it had started for secrets.
    pub async fn resolve(
        &self,
        user: &Principal,
        name: &ServerName,
        session: &str,
        client: Option<&ClientConfig>,
    ) -> Result<LaunchSpec, Failure> {
        let tenant = &user.tenant;
        let server = self.server(name)?;
        let settings = self.config.tenants.get(tenant);
        let config = self.config_of(tenant, name, client)?;
        let mut secrets = BTreeMap::new();
        for secret in secrets_of(server) {
            if let Some(own) = client.and_then(|client| client.secrets().get(&secret)) {
                secrets.insert(secret, own.clone());
                continue;
            }
            let source = settings.and_then(|tenant| tenant.secrets.get(&secret));
            if let Some(source) = source {
                let fetched = self.secrets.fetch(tenant, &secret, source).await?;
                secrets.insert(secret, fetched);
            }
        }
        let (data, tmp) = (
            self.state.data_dir(tenant, name),
            self.state.tmp_dir(tenant, name),
        );
        let values = Values {
            config: &config,
            secrets: &secrets,
            tenant: tenant.as_str(),
            user: Some(user),
            session,
            data: &data.display().to_string(),
            tmp: &tmp.display().to_string(),
        };
        self.spec(name, server, &values, [data, tmp])
    }

    pub(super) fn server(&self, name: &ServerName) -> Result<&Server, Failure> {
        let unknown = || Failure::new(Reason::NotFound, format!("no server `{name}`"));
        self.config.servers.get(name).ok_or_else(unknown)
    }

    /// The config that holds for a caller: the schema's defaults, what its tenant has set, what
    /// the caller sets itself.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when it does not fit, or sets what callers may not set.
    pub fn config_of(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&ClientConfig>,
    ) -> Result<Map<String, Value>, Failure> {
        if let Some(client) = client {
            self.may_set(name, client)?;
        }
        let layers = self.layers(tenant, name, client);
        let Some(schema) = self.schemas.get(name) else {
            return Ok(layers.last().map(|map| (*map).clone()).unwrap_or_default());
        };
        schema.apply(layers).map_err(|misfits| {
            let mend = self.mend(tenant, name);
            let failure = refused(&misfits, name, tenant, &mend);
            match self.advert(tenant, name) {
                Some(schema) => failure.detail("schema", schema),
                None => failure,
            }
        })
    }

    fn layers<'a>(
        &'a self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&'a ClientConfig>,
    ) -> Vec<&'a Map<String, Value>> {
        let settings = self.config.tenants.get(tenant);
        let given = settings.and_then(|tenant| tenant.config.get(name));
        given
            .into_iter()
            .chain(client.map(ClientConfig::values))
            .collect()
    }

    fn mend(&self, tenant: &TenantId, name: &ServerName) -> String {
        let takes = self
            .config
            .servers
            .get(name)
            .map(|server| &server.client_config);
        match takes.filter(|keys| !keys.is_empty()) {
            Some(keys) => format!(
                "callers may set {}; the operator sets `tenants.{tenant}.config.{name}`",
                listed(keys)
            ),
            None => format!("set `tenants.{tenant}.config.{name}`"),
        }
    }

    /// Checks that a caller may set all that, whatever the values.
    fn may_set(&self, name: &ServerName, client: &ClientConfig) -> Result<(), Failure> {
        let server = self.server(name)?;
        let refuse = |pointer: String, message: String| {
            let error = json!({ "pointer": pointer, "message": message });
            let failure = Failure::new(Reason::ConfigInvalid, message);
            Err(failure.detail("errors", json!([error])))
        };
        let keys = client.values().keys();
        if let Some(key) = keys
            .into_iter()
            .find(|key| !server.client_config.contains(key))
        {
            let pointer = format!("/{}", escaped(key));
            let message = format!(
                "callers of server `{name}` cannot set `{key}`, at \"{pointer}\" (they may set {}; see `servers.{name}.client_config`)",
                listed(&server.client_config)
            );
            return refuse(pointer, message);
        }
        let names = client.secrets().keys();
        if let Some(secret) = names
            .into_iter()
            .find(|name| !server.client_secrets.contains(name))
        {
            let message = format!(
                "callers of server `{name}` cannot bring the secret `{secret}` (they may bring {}; see `servers.{name}.client_secrets`)",
                listed(&server.client_secrets)
            );
            return refuse(format!("/{}", escaped(secret)), message);
        }
        Ok(())
    }

    /// Checks what a caller wants to set as far as it can be checked without the rest: what is
    /// missing may come from elsewhere.
    ///
    /// # Errors
    /// As for [`Resolver::config_of`].
    pub fn check_client(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: &ClientConfig,
    ) -> Result<(), Failure> {
        self.may_set(name, client)?;
        let Some(schema) = self.schemas.get(name) else {
            return Ok(());
        };
        let mut misfits = match schema.apply(self.layers(tenant, name, Some(client))) {
            Ok(_) => return Ok(()),
            Err(misfits) => misfits,
        };
        misfits.retain(|misfit| misfit.missing.is_none());
        if misfits.is_empty() {
            return Ok(());
        }
        Err(refused(&misfits, name, tenant, &self.mend(tenant, name)))
    }

    /// What a server tells its clients of the config they may send: a JSON Schema of nothing but
    /// the keys they may set; required is what their tenant has not set. `None` if they may set
    /// nothing.
    pub fn advert(&self, tenant: &TenantId, name: &ServerName) -> Option<Value> {
        let server = self.config.servers.get(name)?;
        if server.client_config.is_empty() && server.client_secrets.is_empty() {
            return None;
        }
        let mut advert = match server.schema.as_deref() {
            Some(Value::Object(schema)) => schema.clone(),
            _ => Map::new(),
        };
        let is_open = |key: &str| server.client_config.iter().any(|open| open == key);
        if let Some(Value::Object(properties)) = advert.get_mut("properties") {
            properties.retain(|key, _| is_open(key));
        }
        let set = self.layers(tenant, name, None);
        if let Some(Value::Array(required)) = advert.get_mut("required") {
            required.retain(|key| {
                let key = key.as_str().unwrap_or_default();
                is_open(key) && !set.iter().any(|values| values.contains_key(key))
            });
        }
        advert.insert("type".to_owned(), "object".into());
        advert.insert("additionalProperties".to_owned(), false.into());
        if !server.client_secrets.is_empty() {
            // Not values of the config: they are brought by a handle.
            advert.insert("x-secrets".to_owned(), json!(server.client_secrets));
        }
        Some(Value::Object(advert))
    }

    /// Whether what a caller sets may be written to disk: it brings no secret, and no value that
    /// the schema calls `writeOnly` (JSON Schema 2020-12, validation, 9.4) or `sensitive`.
    pub fn may_be_kept(&self, name: &ServerName, client: &ClientConfig) -> bool {
        let server = self.config.servers.get(name);
        let schema = server.and_then(|server| server.schema.as_deref());
        let properties = schema.and_then(|schema| schema.get("properties"));
        let is_confidential = |key: &String| {
            let property = properties.and_then(|properties| properties.get(key));
            let is_set = |word: &str| property.is_some_and(|property| property[word] == true);
            is_set("writeOnly") || is_set("sensitive")
        };
        client.secrets().is_empty() && !client.values().keys().any(is_confidential)
    }

    /// Whether nothing keeps the server from being started but what a caller may still set.
    pub fn awaits_client(
        &self,
        tenant: &TenantId,
        name: &ServerName,
        client: Option<&ClientConfig>,
    ) -> bool {
        let Some(server) = self.config.servers.get(name) else {
            return false;
        };
        if client.is_some_and(|client| self.may_set(name, client).is_err()) {
            return false;
        }
        let is_open = |key: &str| {
            let top = key.split('.').next().unwrap_or_default();
            let mut open = server.client_config.iter();
            open.any(|open| open == key || open == top)
        };
        let layers = self.layers(tenant, name, client);
        let misfits = match self.schemas.get(name).map(|schema| schema.apply(layers)) {
            Some(Err(misfits)) => misfits,
            Some(Ok(_)) | None => vec![],
        };
        misfits
            .iter()
            .all(|misfit| misfit.missing.as_deref().is_some_and(is_open))
            && (!misfits.is_empty()
                || server.references().any(|(_, reference)| match reference {
                    Reference::Config(key) => is_open(&key),
                    Reference::Secret(name) => server.client_secrets.contains(&name),
                    _ => false,
                }))
    }

    /// What to start for nobody yet: a spare. `None` for a server that has none.
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] when a root cannot be a URI.
    pub fn resolve_spare(&self, name: &ServerName) -> Result<Option<LaunchSpec>, Failure> {
        let server = self.config.servers.get(name);
        let Some(server) = server.filter(|server| server.min_idle > 0) else {
            return Ok(None);
        };
        // Nothing of it is used: the launch of a server that has spares refers to nothing.
        let values = Values {
            config: &serde_json::Map::new(),
            secrets: &BTreeMap::new(),
            tenant: "",
            user: None,
            session: "",
            data: "",
            tmp: "",
        };
        self.spec(name, server, &values, [PathBuf::new(), PathBuf::new()])
            .map(Some)
    }

    fn spec(
        &self,
        name: &ServerName,
        server: &Server,
        values: &Values<'_>,
        [data, tmp]: [PathBuf; 2],
    ) -> Result<LaunchSpec, Failure> {
        let is_same_for_all = server.min_idle > 0;
        let env = if is_same_for_all {
            self.environment.without_folders()
        } else {
            self.environment.of(&data, &tmp)
        };
        let mut env: BTreeMap<String, SecretString> = env
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        for (name, template) in &server.env {
            env.insert(name.clone(), values.text(template)?);
        }
        let cwd = match &server.cwd {
            Some(template) => self
                .config
                .base_dir
                .join(values.text(template)?.expose_secret()),
            None if is_same_for_all => PathBuf::new(),
            None => data.clone(),
        };
        let mut roots = Vec::with_capacity(server.roots.len());
        for template in &server.roots {
            let root = values.text(template)?;
            roots.push(self.root(root.expose_secret())?);
        }
        Ok(LaunchSpec {
            roots,
            program: program(server, &self.config),
            args: values.args(&server.args)?,
            env,
            cwd,
            limits: ProcessLimits {
                open_files: Some(server.limits.open_files),
                cpu_seconds: Some(server.limits.cpu_seconds).filter(|seconds| *seconds > 0),
            },
            may_gain_privileges: server.may_gain_privileges,
            scratch: is_same_for_all.then(|| self.state.scratch_dir(name)),
            folders: if is_same_for_all {
                vec![]
            } else {
                vec![data, tmp]
            },
            redactor: Redactor::new(values.secrets.values().cloned()),
        })
    }
    /// A root as a URI (client/roots: it MUST be a `file://` URI).
    fn root(&self, root: &str) -> Result<String, Failure> {
        if root.starts_with("file://") {
            return Ok(root.to_owned());
        }
        let path = self.config.base_dir.join(root);
        let path = std::path::absolute(&path).unwrap_or(path);
        url::Url::from_file_path(&path).map_or_else(
            |()| {
                let why = format!("root `{root}` is no path that a URI can hold");
                Err(Failure::new(Reason::ConfigInvalid, why))
            },
            |uri| Ok(uri.to_string()),
        )
    }
}

/// The program: a relative path with a slash starts at pool.toml's folder, like every other path
/// in it, and not at the worker's own working directory; `stdiopool` is this very program, whether
/// or not it is on the PATH.
fn program(server: &Server, config: &Config) -> String {
    let command = &server.command;
    if command == "stdiopool"
        && let Ok(this) = std::env::current_exe()
        && this.exists()
    {
        this.display().to_string()
    } else if command.contains('/') {
        config.base_dir.join(command).display().to_string()
    } else {
        command.clone()
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// The secrets that a server's templates name.
fn secrets_of(server: &Server) -> BTreeSet<String> {
    let names = server
        .references()
        .filter_map(|(_, reference)| match reference {
            Reference::Secret(name) => Some(name),
            _ => None,
        });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const TEXT: &str = r#"
[servers.github]
command = "./server"
args = ["--repo", "${config.repo}", { when = "config.verbose", args = ["-v"] }]
env = { TOKEN = "${secret.token}", HOME = "${dir.tmp}" }
cwd = "work/${tenant.id}"
limits = { cpu_seconds = 9 }
[servers.github.config]
required = ["repo"]
properties = { repo = { type = "string" }, verbose = { type = "boolean" } }

[servers.plain]
command = "plain"

[tenants.acme]
config.github = { repo = "acme/web", verbose = true }
secrets.token = { command = ["echo", "hunter22"] }
[tenants.globex]
config.github = { repo = "globex/app" }
"#;

    fn resolver() -> (Resolver, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config::parse(TEXT, "pool.toml", folder.path()).expect("valid");
        let state = StateDir::open(&folder.path().join("state")).expect("opens");
        let resolver = Resolver::new(Arc::new(config), Arc::new(state)).expect("compiles");
        (resolver, folder)
    }

    async fn resolve(
        resolver: &Resolver,
        tenant: &str,
        server: &str,
    ) -> Result<LaunchSpec, Failure> {
        let user = Principal::new(TenantId::new(tenant), None);
        let server = ServerName::new(server);
        resolver.resolve(&user, &server, "s", None).await
    }

    #[tokio::test]
    async fn a_launch_spec_holds_what_the_tenant_set() {
        let (resolver, folder) = resolver();
        let spec = resolve(&resolver, "acme", "github")
            .await
            .expect("resolves");
        let base = folder.path();
        assert_eq!(spec.program, base.join("./server").display().to_string());
        let args: Vec<_> = spec.args.iter().map(|arg| arg.expose_secret()).collect();
        assert_eq!(args, ["--repo", "acme/web", "-v"]);
        assert_eq!(spec.env["TOKEN"].expose_secret(), "hunter22");
        assert!(
            spec.env["HOME"]
                .expose_secret()
                .ends_with("state/tmp/acme/github")
        );
        assert_eq!(spec.cwd, base.join("work/acme"));
        assert_eq!(spec.limits.cpu_seconds, Some(9));
        assert_eq!(spec.redactor.redact("hunter22"), "[redacted]");
    }

    #[tokio::test]
    async fn equal_launches_have_equal_fingerprints_and_tenants_never_have() {
        let (resolver, _folder) = resolver();
        let fingerprint = async |tenant| {
            let spec = resolve(&resolver, tenant, "plain").await.expect("resolves");
            spec.fingerprint()
        };
        assert_eq!(fingerprint("acme").await, fingerprint("acme").await);
        assert_ne!(fingerprint("acme").await, fingerprint("globex").await);
    }

    #[tokio::test]
    async fn what_is_missing_is_told_and_nothing_is_made() {
        let (resolver, folder) = resolver();
        let no_secret = resolve(&resolver, "globex", "github")
            .await
            .expect_err("misses");
        assert_eq!(no_secret.reason, Reason::ConfigInvalid);
        assert!(no_secret.message.contains("secret.token"), "{no_secret}");
        let no_config = resolve(&resolver, "stranger", "github")
            .await
            .expect_err("misses");
        assert!(no_config.message.contains("config.repo"), "{no_config}");
        let no_server = resolve(&resolver, "acme", "nothing")
            .await
            .expect_err("unknown");
        assert_eq!(no_server.reason, Reason::NotFound);
        assert!(!folder.path().join("state/data").exists());
    }
}
