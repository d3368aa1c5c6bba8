//! From a tenant's config to a launch spec.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::checks::Checks;
use super::client_config::ClientConfig;
use super::confinement::Confinement;
use super::environment::{Environment, Folders, InstallEnvironment};
use super::oauth::Grants;
use super::principal::Principal;
use super::render::{TOKEN_FILE, Values};
use super::secrets::{Secrets, digest};
use super::values::Schema;
use crate::config::template::Reference;
use crate::config::{Config, Isolation, SecretUse, Server};
use crate::ids::{ServerName, TenantId};
use crate::launch::priming::read_at_start;
use crate::launch::{
    LaunchSpec, ProcessLimits, Redactor, RunsAs, Sandbox, SecretFiles, TokenMark, is_of_npm,
    is_one_variable,
};
use crate::profile::RecordBook;
use crate::protocol::{Failure, Reason};
use crate::store::{StateDir, Users};

/// Why a config cannot be used, though it reads well.
#[derive(Debug, thiserror::Error)]
#[error("`servers.{server}.config` cannot be used as a JSON Schema: {why}")]
pub struct ResolverError {
    server: ServerName,
    why: String,
}

/// Values of secrets, by their names.
#[derive(Default)]
struct FetchedSecrets {
    secrets: BTreeMap<String, SecretString>,
    /// Digests of those whose source may tell another value later.
    sourced: BTreeMap<String, [u8; 32]>,
}

/// Works out what to start for whom, under one config.
#[derive(Debug)]
pub struct Resolver {
    pub(super) config: Arc<Config>,
    state: Arc<StateDir>,
    pub(super) schemas: BTreeMap<ServerName, Arc<Schema>>,
    pub(super) checks: Checks,
    environment: Environment,
    secrets: Arc<Secrets>,
    grants: Arc<Grants>,
    confinement: Confinement,
}

impl Resolver {
    /// For the servers and tenants of that config, whose secrets are fetched through `secrets`.
    ///
    /// # Errors
    /// When a server's config schema cannot be compiled.
    pub fn new(
        config: Arc<Config>,
        state: Arc<StateDir>,
        secrets: Arc<Secrets>,
    ) -> Result<Self, ResolverError> {
        let mut schemas = BTreeMap::new();
        for (name, server) in &config.servers {
            let Some(schema) = &server.schema else {
                continue;
            };
            let compiled = Schema::new(schema).map_err(|why| ResolverError {
                server: name.clone(),
                why: why.to_string(),
            })?;
            schemas.insert(name.clone(), Arc::new(compiled));
        }
        Ok(Self {
            environment: Environment::new(&config, std::env::vars_os()),
            confinement: Confinement::new(Arc::clone(&config), Arc::clone(&state)),
            config,
            state,
            schemas,
            checks: Checks::default(),
            secrets,
            grants: Arc::default(),
        })
    }

    /// Has each tenant's servers run as a user of their own, if there are some.
    pub fn set_users(&mut self, users: Option<Arc<Users>>) {
        self.confinement.users = users;
    }

    /// As whom tenants' servers run, where each has a user of its own.
    pub fn users(&self) -> Option<&Arc<Users>> {
        self.confinement.users.as_ref()
    }

    /// Has servers recorded there.
    pub fn set_records(&mut self, records: Arc<RecordBook>) {
        self.confinement.records = records;
    }

    /// Where servers are recorded.
    pub fn records(&self) -> &Arc<RecordBook> {
        &self.confinement.records
    }

    /// The resolver, with what tenants have authorised upstream.
    #[must_use]
    pub fn with_grants(mut self, grants: Arc<Grants>) -> Self {
        self.grants = grants;
        self
    }

    /// Whether a launch spec of the tenant and server has the access token that is in force, if it
    /// has one.
    pub fn has_fresh_token(
        &self,
        tenant: &TenantId,
        server: &ServerName,
        spec: &LaunchSpec,
    ) -> bool {
        let is_it = |token: TokenMark| token.serial == self.grants.serial(tenant, server);
        spec.token.is_none_or(is_it)
    }

    /// The launch for a caller, with what it sets itself and the session it is in.
    ///
    /// # Errors
    /// [`Reason::NotFound`] for an unknown server, [`Reason::ConfigInvalid`] when the config does
    /// not fit or a needed value is missing; nothing is started then.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the commands it had started for secrets; a token upstream that is being
    /// fetched still is.
    pub async fn resolve(
        &self,
        user: &Principal,
        name: &ServerName,
        session: &str,
        client: Option<&ClientConfig>,
    ) -> Result<LaunchSpec, Failure> {
        let tenant = &user.tenant;
        let server = self.server(name)?;
        let config = self.config_of(tenant, name, client).await?;
        let fetched = self.secrets_for(tenant, server, client).await?;
        let token = match &server.oauth {
            Some(oauth) if server.needs_token() => {
                Some(self.grants.access_token(tenant, name, oauth).await?)
            }
            _ => None,
        };
        let (token, mark) = token.unzip();
        let (data, tmp) = (
            self.state.data_dir(tenant, name),
            self.state.tmp_dir(tenant, name),
        );
        let secret_root = self.secret_root(server)?;
        let values = Values {
            config: &config,
            secrets: &fetched.secrets,
            token: token.as_ref(),
            secret_root: &secret_root,
            tenant: tenant.as_str(),
            user: Some(user),
            session,
            data: &data.display().to_string(),
            tmp: &tmp.display().to_string(),
        };
        let folders = Folders {
            packages: self.packages_dir(tenant, name),
            data: data.clone(),
            tmp: tmp.clone(),
        };
        let runs_as = self.confinement.runs_as(tenant, server).await?;
        let mut spec = self.spec(name, server, &values, &folders, runs_as.clone())?;
        if let Some((serial, grant)) = mark {
            let any_token = SecretString::from(format!("grant {grant}"));
            let values = Values {
                token: Some(&any_token),
                ..values
            };
            let lasting = self.spec(name, server, &values, &folders, runs_as)?;
            let lasting = lasting.fingerprint();
            spec.token = Some(TokenMark { serial, lasting });
        }
        spec.sourced = fetched.sourced;
        Ok(spec)
    }

    /// The secrets that a server's launch names: those that the caller brings itself, then those of its tenant.
    ///
    /// # Errors
    /// A [`Failure`] when a secret that is needed cannot be had.
    async fn secrets_for(
        &self,
        tenant: &TenantId,
        server: &Server,
        client: Option<&ClientConfig>,
    ) -> Result<FetchedSecrets, Failure> {
        let settings = self.config.tenants.get(tenant);
        let mut found = FetchedSecrets::default();
        for secret in secrets_of(server) {
            if let Some(own) = client.and_then(|client| client.secrets().get(&secret)) {
                found.secrets.insert(secret, own.clone());
                continue;
            }
            let source = settings.and_then(|tenant| tenant.secrets.get(&secret));
            if let Some(source) = source {
                let has_default = server.use_of_secret(&secret) < SecretUse::Needed;
                let fetched = self.secrets.fetch(tenant, &secret, source, has_default);
                let Some(fetched) = fetched.await? else {
                    continue;
                };
                if source.may_change() {
                    found.sourced.insert(secret.clone(), digest(&fetched));
                }
                found.secrets.insert(secret, fetched);
            }
        }
        Ok(found)
    }

    pub(super) fn server(&self, name: &ServerName) -> Result<&Server, Failure> {
        let unknown = || Failure::new(Reason::NotFound, format!("no server `{name}`"));
        self.config.servers.get(name).ok_or_else(unknown)
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
            token: None,
            secret_root: Path::new(""),
            tenant: "",
            user: None,
            session: "",
            data: "",
            tmp: "",
        };
        let runs_as = self.confinement.runs_as_nobody(server);
        self.spec(name, server, &values, &Folders::default(), runs_as)
            .map(Some)
    }

    /// The launch of what workers of a server are forked from, whose own is `worker`: a process with a user of its own and with nothing of a
    /// tenant's but what an interpreter reads when it starts, in a folder of that name among those of spares. Program and arguments are still those of the worker. `None`
    /// where tenants have no users of their own.
    pub fn resolve_template(
        &self,
        name: &ServerName,
        worker: &LaunchSpec,
        folder: &str,
    ) -> Option<LaunchSpec> {
        let users = self.confinement.users.as_ref()?;
        let sandbox = worker.sandbox.clone()?;
        let at_start = read_at_start(&worker.env).into_iter();
        let at_start = at_start.map(|(variable, value)| (variable, value.into()));
        let path = ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".into());
        Some(LaunchSpec {
            tenant: None,
            args: vec![],
            env: at_start.chain([path]).collect(),
            cwd: PathBuf::new(),
            scratch: Some(self.state.scratch_dir(name).join(folder)),
            roots: vec![],
            limits: ProcessLimits::default(),
            sandbox: Some(Sandbox {
                runs_as: RunsAs::OneOf(Arc::clone(users.user_pool())),
                named: vec![],
                ..sandbox
            }),
            folders: vec![],
            packages: PathBuf::new(),
            writable: vec![],
            secret_files: SecretFiles::default(),
            sourced: BTreeMap::new(),
            redactor: Redactor::default(),
            token: None,
            ..worker.clone()
        })
    }

    /// The environment in which the package of a server is installed: nothing of a tenant's.
    pub fn install_environment(&self, server: &Server) -> InstallEnvironment {
        self.environment.of_installs(server)
    }

    fn spec(
        &self,
        name: &ServerName,
        server: &Server,
        values: &Values<'_>,
        folders: &Folders,
        runs_as: Option<RunsAs>,
    ) -> Result<LaunchSpec, Failure> {
        let is_same_for_all = server.min_idle > 0;
        let env = self.variables(server, values, folders)?;
        let cwd = match &server.cwd {
            Some(template) => self
                .config
                .base_dir
                .join(values.text(template)?.expose_secret()),
            None if is_same_for_all => PathBuf::new(),
            None => folders.data.clone(),
        };
        let mut roots = Vec::with_capacity(server.roots.len());
        for template in &server.roots {
            let root = values.text(template)?;
            roots.push(self.root(root.expose_secret())?);
        }
        Ok(LaunchSpec {
            tenant: (!is_same_for_all).then(|| TenantId::new(values.tenant)),
            roots,
            program: program(server, &self.config),
            args: values.args(&server.args)?,
            env,
            cwd,
            limits: ProcessLimits {
                open_files: Some(server.limits.open_files),
                cpu_seconds: Some(server.limits.cpu_seconds).filter(|seconds| *seconds > 0),
                pids: server.limits.pids,
                memory: server.limits.memory,
                cpu_millis: server.limits.cpu_millis,
                cpu_weight: server.limits.cpu_weight,
                disk: server.limits.disk,
            },
            may_gain_privileges: server.sandbox == Isolation::None,
            sandbox: runs_as.map(|runs_as| {
                let shared = self.environment.shared();
                self.confinement
                    .sandbox(name, server, values, runs_as, shared)
            }),
            scratch: is_same_for_all.then(|| self.state.scratch_dir(name)),
            folders: if is_same_for_all {
                vec![]
            } else {
                vec![folders.data.clone(), folders.tmp.clone()]
            },
            packages: folders.packages.clone(),
            writable: server.writable_dependencies.clone(),
            read_only: self.environment.pythons(server).into_iter().collect(),
            secret_files: SecretFiles::new(values.secret_root.to_owned(), files_of(server, values)),
            sourced: BTreeMap::new(),
            redactor: Redactor::new(values.secrets.values().chain(values.token).cloned()),
            token: None,
        })
    }

    /// The environment of a server's processes.
    fn variables(
        &self,
        server: &Server,
        values: &Values<'_>,
        folders: &Folders,
    ) -> Result<BTreeMap<String, SecretString>, Failure> {
        let is_same_for_all = server.min_idle > 0;
        let env = if is_same_for_all {
            self.environment.without_folders()
        } else {
            self.environment.of(folders)
        };
        let mut env: BTreeMap<String, SecretString> = env
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        for (name, template) in &server.env {
            // In upper and lower case: of two, npm would take the one that is passed to all.
            if is_of_npm(name) {
                env.retain(|known, _| !is_one_variable(known, name));
            }
            env.insert(name.clone(), values.text(template)?);
        }
        Ok(env)
    }

    /// Where the private views of packages are made. Where one command is hosted, whose state goes with it, they are
    /// kept beside the package cache.
    fn packages_dir(&self, tenant: &TenantId, name: &ServerName) -> PathBuf {
        let cache = self.config.package_cache(self.state.path());
        match cache.parent().filter(|_| self.config.only_server.is_some()) {
            Some(beside) => beside.join("private").join(name.as_str()),
            None => self.state.packages_dir(tenant, name),
        }
    }

    /// Below what secrets are put into files; nowhere if the server wants none there.
    fn secret_root(&self, server: &Server) -> Result<PathBuf, Failure> {
        let wants_files = |(_, reference)| {
            matches!(
                reference,
                Reference::SecretFile(_) | Reference::OAuthTokenFile
            )
        };
        if !server.references().any(wants_files) {
            return Ok(PathBuf::new());
        }
        let root = self.state.secret_root();
        root.map(Path::to_owned).map_err(|error| {
            tracing::error!(%error, "no folder for the files of secrets");
            let why =
                "there is no folder for files of secrets (the operator finds the cause in the log)";
            Failure::new(Reason::Internal, why)
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

/// What [`Resolver::install_environment`] says, without a running stdiopool, for `stdiopool prefetch`.
pub fn install_environment(config: &Config, server: &Server) -> InstallEnvironment {
    Environment::new(config, std::env::vars_os()).of_installs(server)
}

/// The program: a relative path with a slash starts at pool.toml's folder, like every other path
/// in it, and not at the worker's own working directory; `stdiopool` is this very program, whether
/// or not it is on the PATH.
pub fn program(server: &Server, config: &Config) -> String {
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

/// The secrets that it reads from files.
fn files_of(server: &Server, values: &Values<'_>) -> BTreeMap<String, SecretString> {
    let files = server
        .references()
        .filter_map(|(_, reference)| match reference {
            Reference::SecretFile(name) => {
                let secret = values.secrets.get(&name)?.clone();
                Some((name, secret))
            }
            Reference::OAuthTokenFile => Some((TOKEN_FILE.to_owned(), values.token?.clone())),
            _ => None,
        });
    files.collect()
}

/// The secrets that a server's templates name.
fn secrets_of(server: &Server) -> BTreeSet<String> {
    let names = server
        .references()
        .filter_map(|(_, reference)| match reference {
            Reference::Secret(name) | Reference::SecretFile(name) => Some(name),
            _ => None,
        });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::store::Vault;

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

[servers.npx]
command = "npx"
env = { NPM_CONFIG_USERCONFIG = "/own" }

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
        let secrets = Arc::new(Secrets::new(Arc::new(Vault::without_key())));
        let resolver = Resolver::new(Arc::new(config), Arc::new(state), secrets);
        let resolver = resolver.expect("compiles");
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
    async fn a_setting_of_npms_is_there_once_however_it_is_spelled() {
        let (mut resolver, _folder) = resolver();
        let own = [("npm_config_userconfig", "/passed")];
        let own = own.map(|(name, value)| (name.into(), value.into()));
        resolver.environment = Environment::new(&resolver.config, own);
        let spec = resolve(&resolver, "acme", "npx").await.expect("resolves");
        let names = spec.env.keys().filter(|name| is_of_npm(name));
        let names: Vec<_> = names.map(String::as_str).collect();
        assert_eq!(names, ["NPM_CONFIG_USERCONFIG", "npm_config_cache"]);
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
