//! From a request to an installation.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::Flock;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::cache::{About, Cache, Reference};
use super::downloads::{self, Left};
use super::helper::Helper;
use super::install_error::InstallError;
use super::manifest::{ABOUT, Manifest, ManifestError, hex, write_anew};
use super::node::Run;
use super::pins::Pins;
use super::place::InstallPlace;
use super::scripts::{self, Scripts, Unscripted};
use super::{node, python, seed};
use crate::fields;
use crate::launch::line::{Entry, NodeLauncher, PackageRun, Recipe};
use crate::launch::{is_of_npm, is_one_variable};

/// First node with a compile cache that a variable turns on (nodejs.org/api/cli.html).
const COMPILE_CACHE_SINCE: (u32, u32) = (22, 1);

/// A package, and under which configuration it is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is installed.
    pub recipe: Recipe,
    /// The program of the package that is run.
    pub entry: Entry,
    /// The environment of npm and uv: nothing of a tenant's.
    pub env: Arc<BTreeMap<String, String>>,
    /// Written to, and taken from, the lock file beside pool.toml.
    pub is_pinned: bool,
}

/// The three parts that an entry is made from and named by.
#[derive(Clone, Copy)]
struct MadeFrom<'a> {
    /// Version of Node or Python.
    runtime: &'a str,
    /// Text of the lock file.
    lock_file: &'a str,
    /// Install scripts that may run.
    scripts: &'a Scripts,
}

impl Request {
    /// The one that a command line makes.
    pub fn new(run: &PackageRun, env: Arc<BTreeMap<String, String>>, is_pinned: bool) -> Self {
        Self {
            recipe: run.recipe.clone(),
            entry: run.entry.clone(),
            env,
            is_pinned,
        }
    }

    /// An id that is equal for requests of equal packages under equal configuration of
    /// npm and uv, as far as variables make it.
    pub fn id(&self) -> String {
        // Where downloads are kept is no matter of what they are.
        let configures = |name: &str| {
            let name = name.to_ascii_lowercase();
            !["npm_config_cache", "uv_cache_dir", "uv_python_install_dir"].contains(&&*name)
                && (name.starts_with("npm_config_") || name.starts_with("uv_"))
        };
        let mut hash = Sha256::new();
        let mut field = |text: &str| {
            fields::put(text, |part| hash.update(part));
        };
        field(&self.recipe.id());
        field(if self.is_pinned { "pinned" } else { "" });
        for (name, value) in &*self.env {
            if configures(name) {
                field(name);
                field(value);
            }
        }
        hex(&hash.finalize()[..16])
    }
}

/// How far an install is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Other installs go first.
    Waiting,
    /// The versions that are meant are found out.
    Resolving,
    /// The packages are downloaded and put in place.
    Installing,
}

impl Stage {
    /// The stage in words, for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Resolving => "resolving",
            Self::Installing => "installing",
        }
    }
}

/// Something installed, ready to be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installation {
    /// The entry of the cache.
    pub entry: String,
    /// The folder of that entry.
    pub folder: PathBuf,
    /// The package that is run, without a version.
    pub package: String,
    /// The package's version.
    pub version: String,
    /// What to start.
    pub program: PathBuf,
    /// Folder of the program and its like; npx and uvx put that first on the PATH.
    pub bin: PathBuf,
    /// Whether the program's node keeps compiled code where `NODE_COMPILE_CACHE` says.
    pub has_compile_cache: bool,
    /// When that version was found to be the one to use.
    pub checked: SystemTime,
    /// Install scripts that did not run.
    pub unscripted: Option<Unscripted>,
    /// What the package's install scripts have left beside the packages.
    pub left: Left,
}

/// How an install went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What there is now.
    pub installation: Installation,
    /// Whether anything had to be installed for the request.
    pub is_new: bool,
}

/// Installs what a request wants, unless it is there. `anew`: the versions are found out again,
/// though they are known. One process at a time does so for a request, the others take what it made.
///
/// # Errors
/// Why it cannot be had.
///
/// # Cancel-Safety
/// A dropped call kills what it started; what is half made is made anew by the next.
pub async fn install(
    cache: &Cache,
    request: &Request,
    pins: Option<&Pins>,
    anew: bool,
    tell: &(dyn Fn(Stage) + Send + Sync),
) -> Result<Outcome, InstallError> {
    let id = request.id();
    let mut request = request.clone();
    let env = Arc::make_mut(&mut request.env);
    set_own_folders(env, cache);
    let allowed = scripts::take_allowed(env);
    let request = &request;
    tell(Stage::Waiting);
    let lock = cache.lock(&id).await?;
    let job = Job {
        cache,
        request,
        allowed,
        lock,
        tell,
        place: OnceCell::new(),
    };
    if !anew
        && let Some(reference) = cache.reference(&id)
        && let Ok(installation) = job.look_up(&reference).await
        && job.is_sound(&reference.entry).await?
    {
        cache.touch(&id);
        return Ok(Outcome {
            installation,
            is_new: false,
        });
    }
    job.install(&id, pins.filter(|_| request.is_pinned)).await
}

/// HOME and the caches of an install are folders of the package cache, which no worker is told of. uv copies what it
/// puts in place: with a link, the file in its cache and the installed one would be one file.
fn set_own_folders(env: &mut BTreeMap<String, String>, cache: &Cache) {
    let home = || cache.home().display().to_string();
    env.entry("HOME".to_owned()).or_insert_with(home);
    let is_npm_cache = |name: &str| name.eq_ignore_ascii_case("npm_config_cache");
    env.retain(|name, _| !is_npm_cache(name));
    for (name, value) in [
        ("npm_config_cache", cache.downloads("npm")),
        ("UV_CACHE_DIR", cache.downloads("uv")),
        ("UV_LINK_MODE", "copy".into()),
    ] {
        env.insert(name.to_owned(), value.display().to_string());
    }
    env.remove("UV_NO_CACHE");
}

/// Whether an entry is as it was installed. Reads every file of it.
async fn verified(folder: PathBuf) -> Result<(), ManifestError> {
    let verify = move || Manifest::read(&folder)?.verify(&folder);
    let verified = tokio::task::spawn_blocking(verify).await;
    // A panic or a shutdown: it cannot be told.
    verified.unwrap_or(Err(ManifestError::NoList))
}

/// Whether an entry of the cache is as it was installed, or what is wrong with it. Reads every file of it.
///
/// # Errors
/// What differs.
///
/// # Cancel-Safety
/// Cancel-safe; reading goes on in the background.
pub(super) async fn check(cache: &Cache, entry: &str) -> Result<(), ManifestError> {
    verified(cache.entry(entry)).await
}

struct Job<'a> {
    cache: &'a Cache,
    request: &'a Request,
    /// Packages whose install scripts the environment allows.
    allowed: Option<String>,
    lock: Flock<File>,
    tell: &'a (dyn Fn(Stage) + Send + Sync),
    /// Where code of packages is run, from when it is.
    place: OnceCell<InstallPlace>,
}

impl Job<'_> {
    async fn install(&self, id: &str, pins: Option<&Pins>) -> Result<Outcome, InstallError> {
        let recipe = &self.request.recipe;
        let staging = self.cache.workspace()?;
        let helper = self.helper(staging.path());
        (self.tell)(Stage::Resolving);
        let runtime = self.runtime(&helper).await?;
        let pinned = match pins {
            Some(pins) => pins.get(&recipe.id())?,
            None => None,
        };
        let is_pinned = pinned.is_some();
        let lock_file = match (pinned, recipe) {
            (Some(lock), _) => lock,
            (
                None,
                Recipe::Npm {
                    specs, launcher, ..
                },
            ) => node::resolve(&helper, specs, *launcher).await?,
            (
                None,
                Recipe::PyPi {
                    requirements,
                    options,
                    ..
                },
            ) => {
                // Of a package that is not built, its build says what it needs.
                let place = self.place().await?;
                let env = self.python_env(place)?;
                let helper = place.helper(staging.path(), &env, &self.lock)?;
                python::resolve(&helper, requirements, options, &runtime).await?
            }
        };
        let version = version(recipe, &lock_file)?;
        let scripts = self.scripts(&helper, &lock_file).await?;
        let entry = entry_name(recipe, &runtime, &lock_file, &scripts);
        let entry_lock = self.cache.lock(&entry).await?;
        let is_new = !self.cache.is_whole(&entry) || !self.is_sound(&entry).await?;
        if is_new {
            (self.tell)(Stage::Installing);
            self.cache.remove(&entry)?;
            let made_from = MadeFrom {
                runtime: &runtime,
                lock_file: &lock_file,
                scripts: &scripts,
            };
            self.fill(&entry, made_from, &version).await?;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let reference = Reference {
            request: recipe.id(),
            entry,
            version,
            checked: now.unwrap_or_default().as_secs(),
        };
        let installation = self.look_up(&reference).await?;
        self.cache.set_reference(id, &reference)?;
        drop(entry_lock);
        if let Some(pins) = pins.filter(|_| !is_pinned) {
            pins.set(&recipe.id(), &reference.version, &lock_file)?;
        }
        Ok(Outcome {
            installation,
            is_new,
        })
    }

    /// Whether an entry is as it was installed. One that is not is put out of the way, and that is told.
    async fn is_sound(&self, entry: &str) -> Result<bool, InstallError> {
        let Err(why) = check(self.cache, entry).await else {
            return Ok(true);
        };
        tracing::warn!(
            entry,
            "package {} is damaged: {why}; it is installed again",
            self.request.recipe.name()
        );
        self.cache.remove(entry)?;
        Ok(false)
    }

    /// The install scripts of a lock file that run.
    async fn scripts(&self, helper: &Helper<'_>, lock_file: &str) -> Result<Scripts, InstallError> {
        match &self.request.recipe {
            Recipe::Npm {
                launcher, scripts, ..
            } => {
                let lock = node::parse(lock_file)?;
                let allowed = self.allowed.as_deref();
                Ok(scripts::that_run(helper, &lock, *launcher, scripts, allowed).await?)
            }
            Recipe::PyPi { .. } => Ok(Scripts::All),
        }
    }

    /// Makes an entry of `version`.
    async fn fill(
        &self,
        entry: &str,
        made_from: MadeFrom<'_>,
        version: &str,
    ) -> Result<(), InstallError> {
        let dir = self.cache.entry(entry);
        let made = DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(InstallError::file(dir.clone(), "made"))?;
        let filled = match self.install_into(&dir, made_from).await {
            Ok(filled) => filled,
            Err(why) => {
                if let Err(error) = self.cache.remove(entry) {
                    tracing::warn!("what is left of a failed install stays: {error}");
                }
                return Err(why);
            }
        };
        let listed = {
            let dir = dir.clone();
            let list = move || {
                let manifest = Manifest::of(&dir)?;
                let written = manifest.write(&dir);
                written.map_err(InstallError::ListNotWritten)
            };
            tokio::task::spawn_blocking(list).await
        };
        let manifest = listed.map_err(InstallError::NotListed)??;
        let (unscripted, left) = filled;
        let about = About {
            package: self.request.recipe.id(),
            version: version.to_owned(),
            manifest,
            unscripted,
            left,
        };
        // Last, so that what it stands in is whole.
        let path = dir.join(ABOUT);
        let write = || write_anew(&path, &serde_json::to_vec(&about)?);
        write().map_err(InstallError::file(path.clone(), "written"))?;
        Ok(self.cache.seal(entry)?)
    }

    /// Installs into a folder; says which install scripts did not run, and what those that did have left.
    async fn install_into(
        &self,
        dir: &Path,
        MadeFrom {
            runtime,
            lock_file,
            scripts,
        }: MadeFrom<'_>,
    ) -> Result<(Option<Unscripted>, Left), InstallError> {
        match &self.request.recipe {
            Recipe::Npm { launcher, .. } => {
                let lock = node::parse(lock_file)?;
                let is_plain = scripts::wanted(&lock).is_empty() || !scripts.may_run();
                if is_plain && !seed::is_built_when_fetched(&lock) {
                    let helper = self.helper(dir);
                    node::install(&helper, lock_file, *launcher, scripts, Run::Nothing).await?;
                    let unscripted = scripts.not_run(&helper, &lock).await;
                    return Ok((unscripted, Left::default()));
                }
                self.install_with_scripts(dir, lock_file, *launcher, scripts)
                    .await
            }
            Recipe::PyPi { options, .. } => {
                let place = self.place().await?;
                let env = self.python_env(place)?;
                let helper = place.helper(dir, &env, &self.lock)?;
                python::install(&helper, lock_file, options, runtime).await?;
                place.take_back(dir)?;
                Ok((None, Left::default()))
            }
        }
    }

    /// Installs packages of npm into a folder, and runs their scripts: apart, with the tarballs at hand that were fetched before, so that no
    /// script comes to the cache that all installs share, or sees what is said to the registry. npm runs what it fetches from git
    /// when it fetches it, so that it fetches all in there then.
    async fn install_with_scripts(
        &self,
        dir: &Path,
        lock_file: &str,
        launcher: NodeLauncher,
        scripts: &Scripts,
    ) -> Result<(Option<Unscripted>, Left), InstallError> {
        let lock = node::parse(lock_file)?;
        let place = self.place().await?;
        let mut env = (*self.request.env).clone();
        downloads::set_places(&mut env, dir).map_err(InstallError::NotKept)?;
        place.set_folders(&mut env, true);
        let is_fetched = !seed::is_built_when_fetched(&lock);
        if is_fetched {
            let staging = self.cache.workspace()?;
            let helper = self.helper(staging.path());
            node::install(&helper, lock_file, launcher, scripts, Run::Nothing).await?;
            let (from, to) = (self.cache.downloads("npm"), place.downloads("npm"));
            let copied = seed::copy_content(&lock, &from, &to);
            copied.map_err(InstallError::file(to, "filled"))?;
            seed::keep_from_scripts(&mut env);
        }
        let name = "npm_config_userconfig";
        let named = env.iter().find(|(it, _)| is_one_variable(it, name));
        if let Some(path) = named.map(|(_, path)| PathBuf::from(path)) {
            env.retain(|it, _| !is_one_variable(it, name));
            if let Ok(text) = std::fs::read_to_string(&path) {
                let text = match is_fetched {
                    true => seed::without_credentials(&text),
                    false => text,
                };
                let own = place.settings("npmrc");
                std::fs::write(&own, text).map_err(InstallError::file(own.clone(), "written"))?;
                env.insert(name.to_owned(), own.display().to_string());
            }
        }
        let helper = place.helper(dir, &env, &self.lock)?;
        let run = match scripts.may_run() {
            true => Run::Scripts,
            false => Run::Nothing,
        };
        node::install(&helper, lock_file, launcher, scripts, run).await?;
        let unscripted = scripts.not_run(&helper, &lock).await;
        place.take_back(dir)?;
        let left = downloads::tidy(dir).map_err(InstallError::NotKept)?;
        Ok((unscripted, left))
    }

    /// Where code of packages is run.
    async fn place(&self) -> Result<&InstallPlace, InstallError> {
        let place = self.place.get_or_try_init(|| InstallPlace::new(self.cache));
        Ok(place.await?)
    }

    /// The environment of uv where it runs code of packages.
    fn python_env(&self, place: &InstallPlace) -> Result<BTreeMap<String, String>, InstallError> {
        let mut env = (*self.request.env).clone();
        place.set_folders(&mut env, false);
        env.retain(|name, _| !is_of_npm(name));
        // Where none is installed, uv looks into folders above that its user may not pass.
        let pythons = "UV_PYTHON_INSTALL_DIR";
        if env
            .get(pythons)
            .is_some_and(|path| !Path::new(path).is_dir())
        {
            let own = place.downloads("uv-python").display().to_string();
            env.insert(pythons.to_owned(), own);
        }
        if let Some(path) = env.get("UV_CONFIG_FILE").map(PathBuf::from)
            && !place.may_read(&path)
        {
            let own = place.settings("uv.toml");
            // From the second command on it is there, or what a build has put in its place, which is not followed.
            if own.symlink_metadata().is_err() {
                std::fs::copy(&path, &own).map_err(InstallError::file(path, "read"))?;
            }
            env.insert("UV_CONFIG_FILE".to_owned(), own.display().to_string());
        }
        Ok(env)
    }

    /// What the packages are installed for: other native parts, other bytecode.
    async fn runtime(&self, helper: &Helper<'_>) -> Result<String, InstallError> {
        match &self.request.recipe {
            Recipe::Npm { .. } => {
                let (major, _) = node::runtime(helper).await?;
                Ok(format!("node {major}"))
            }
            Recipe::PyPi {
                python, launcher, ..
            } => Ok(python::interpreter(helper, python.as_deref(), *launcher).await?),
        }
    }

    /// The program to start in an entry.
    async fn look_up(&self, reference: &Reference) -> Result<Installation, InstallError> {
        let dir = self.cache.entry(&reference.entry);
        let entry = &self.request.entry;
        let ((program, bin), has_compile_cache) = match &self.request.recipe {
            Recipe::Npm {
                specs, launcher, ..
            } => {
                let spec = specs.first().ok_or(InstallError::NothingNamed)?;
                let found = node::program(&dir, spec, entry, *launcher)?;
                let runtime = node::runtime(&self.helper(&dir)).await?;
                (found, runtime >= COMPILE_CACHE_SINCE)
            }
            Recipe::PyPi { requirements, .. } => {
                let first = requirements.first().ok_or(InstallError::NothingNamed)?;
                (python::program(&dir, first, entry)?, false)
            }
        };
        let about = self.cache.about(&reference.entry);
        let about = about.map_err(InstallError::file(dir.join(ABOUT), "read"))?;
        Ok(Installation {
            entry: reference.entry.clone(),
            folder: dir,
            package: self.request.recipe.package().unwrap_or_default().to_owned(),
            version: reference.version.clone(),
            program,
            bin,
            has_compile_cache,
            checked: UNIX_EPOCH + std::time::Duration::from_secs(reference.checked),
            unscripted: about.unscripted,
            left: about.left,
        })
    }

    fn helper<'h>(&'h self, dir: &'h Path) -> Helper<'h> {
        Helper {
            env: &self.request.env,
            dir,
            lock: &self.lock,
            timeout: self.cache.timeout(),
            confinement: None,
            group: None,
        }
    }
}

fn version(recipe: &Recipe, lock_file: &str) -> Result<String, InstallError> {
    match recipe {
        Recipe::Npm { specs, .. } => {
            let spec = specs.first().ok_or(InstallError::NothingNamed)?;
            node::version(lock_file, spec)
        }
        Recipe::PyPi { requirements, .. } => {
            let first = requirements.first().ok_or(InstallError::NothingNamed)?;
            python::version(lock_file, first)
        }
    }
}

/// The name of the entry that a lock file leads to.
fn entry_name(recipe: &Recipe, runtime: &str, lock_file: &str, scripts: &Scripts) -> String {
    let (kind, how) = match recipe {
        Recipe::Npm { launcher, .. } if launcher.runs_scripts() => ("npm", scripts.name()),
        Recipe::Npm { .. } => ("npm", "no scripts".to_owned()),
        Recipe::PyPi { .. } => ("pypi", String::new()),
    };
    let mut hash = Sha256::new();
    for field in [how.as_str(), runtime, lock_file] {
        fields::put(field, |part| hash.update(part));
    }
    format!("{kind}-{}", hex(&hash.finalize()[..16]))
}
