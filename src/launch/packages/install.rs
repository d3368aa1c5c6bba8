//! From a request to an installation.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::fcntl::Flock;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::cache::{About, Cache, CacheError, Reference, failed};
use super::downloads::{self, Left};
use super::fetching::Fetching;
use super::helper::Helper;
use super::install_error::InstallError;
use super::manifest::{ABOUT, Manifest, ManifestError, hex, write_anew};
use super::node::{Git, Run};
use super::npm_settings::{GitSetting, NpmSettings};
use super::pins::Pins;
use super::place::InstallPlace;
use super::request::{Installation, Outcome, Request, Stage};
use super::scripts::{self, Scripts, Unscripted};
use super::{node, python, seed};
use crate::fields;
use crate::launch::line::{NodeLauncher, NpmSpec, Recipe};
use crate::launch::{InstallGroup, is_of_npm};

/// First node with a compile cache that a variable turns on (nodejs.org/api/cli.html).
const COMPILE_CACHE_SINCE: (u32, u32) = (22, 1);

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
        npm: OnceCell::new(),
        group: OnceCell::new(),
        fetching: OnceCell::new(),
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
    /// What npm is set to, from when it was asked.
    npm: OnceCell<NpmSettings>,
    /// The control group of all that this install runs, where there can be one.
    group: OnceCell<Option<Arc<dyn InstallGroup>>>,
    /// What finds out versions and fetches packages.
    fetching: OnceCell<Fetching>,
    /// Where code of packages is run, from when it is.
    place: OnceCell<InstallPlace>,
}

impl Job<'_> {
    async fn install(&self, id: &str, pins: Option<&Pins>) -> Result<Outcome, InstallError> {
        let recipe = &self.request.recipe;
        let staging = self.cache.workspace()?;
        let helper = self.fetching().await?;
        let helper = helper.helper(staging.path(), &[], &self.lock);
        (self.tell)(Stage::Resolving);
        let runtime = self.runtime(staging.path()).await?;
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
            ) => self.resolve_npm(&helper, specs, *launcher).await?,
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

    /// The lock file of packages of npm. npm builds dependencies from git when it finds out what they need, by settings that they bring along: where
    /// there are some, or may be, that is done apart.
    async fn resolve_npm(
        &self,
        helper: &Helper<'_>,
        specs: &[NpmSpec],
        launcher: NodeLauncher,
    ) -> Result<String, InstallError> {
        match self.npm(helper).await?.git() {
            GitSetting::Refused => return node::resolve(helper, specs, launcher, Git::Taken).await,
            GitSetting::Taken => match node::resolve(helper, specs, launcher, Git::Refused).await {
                Ok(lock) if !node::lacks_git(&lock)? => return Ok(lock),
                Ok(_) => {}
                Err(why) if why.is_of_git() => {}
                Err(why) => return Err(why),
            },
            GitSetting::Unknown => {}
        }
        let place = self.place().await?;
        let staging = self.cache.workspace()?;
        let mut env = (*self.request.env).clone();
        downloads::name_npmrc(&mut env);
        place.set_folders(&mut env, false);
        seed::own_npmrc(place, &mut env, false)?;
        let helper = place.helper(staging.path(), &env, &self.lock)?;
        node::resolve(&helper, specs, launcher, Git::Taken).await
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
                if scripts::wanted(&lock).is_empty() {
                    return Ok(Scripts::All);
                }
                if !launcher.runs_scripts() {
                    let why = format!("{} has rules of its own for them", launcher.as_str());
                    return Ok(Scripts::None(why));
                }
                let allowed = self.allowed.as_deref();
                let settings = self.npm(helper).await?;
                Ok(scripts::that_run(helper, settings, scripts, allowed).await?)
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
                    let fetching = self.fetching().await?;
                    let helper = fetching.helper(dir, &[], &self.lock);
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
            let fetching = self.fetching().await?;
            let helper = fetching.helper(staging.path(), &[], &self.lock);
            node::install(&helper, lock_file, launcher, scripts, Run::Nothing).await?;
            let (from, to) = (self.cache.downloads("npm"), place.downloads("npm"));
            let copied = seed::copy_content(&lock, &from, &to);
            copied.map_err(InstallError::file(to, "filled"))?;
            seed::keep_from_scripts(&mut env);
        }
        seed::own_npmrc(place, &mut env, is_fetched)?;
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

    /// What npm is set to.
    async fn npm(&self, helper: &Helper<'_>) -> Result<&NpmSettings, InstallError> {
        let asked = self.npm.get_or_try_init(|| NpmSettings::ask(helper));
        Ok(asked.await?)
    }

    /// The control group of this install, where there can be one.
    async fn group(&self) -> Result<Option<Arc<dyn InstallGroup>>, InstallError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let make = async || -> Result<_, CacheError> {
            let Some(sandbox) = self.cache.sandbox() else {
                return Ok(None);
            };
            let made = (sandbox.make_group)(LAST.fetch_add(1, Ordering::Relaxed));
            let what = "make a control group for an install";
            Ok(made
                .map_err(failed(self.cache.root(), what))?
                .map(Arc::from))
        };
        Ok(self.group.get_or_try_init(make).await?.clone())
    }

    /// What finds out versions and fetches packages.
    async fn fetching(&self) -> Result<&Fetching, InstallError> {
        let group = self.group().await?;
        let make = async || Fetching::new(self.cache, &self.request.env, group);
        Ok(self.fetching.get_or_try_init(make).await?)
    }

    /// Where code of packages is run.
    async fn place(&self) -> Result<&InstallPlace, InstallError> {
        let group = self.group().await?;
        let place = self
            .place
            .get_or_try_init(|| InstallPlace::new(self.cache, group));
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
    async fn runtime(&self, dir: &Path) -> Result<String, InstallError> {
        let helper = self.helper(dir);
        match &self.request.recipe {
            Recipe::Npm { .. } => {
                let (major, _) = node::runtime(&helper).await?;
                Ok(format!("node {major}"))
            }
            Recipe::PyPi {
                python, launcher, ..
            } => {
                let asked = python::asked_for(&helper, python.as_deref(), *launcher).await?;
                let asked = asked.as_deref();
                let why = match python::interpreter(&helper, asked).await {
                    Ok(found) => return Ok(found),
                    Err(why) => why,
                };
                // The first command says so, if uv itself is missing.
                let installed = self.install_interpreter(dir, asked).await;
                installed.map_err(|_| why)?;
                Ok(python::interpreter(&helper, asked).await?)
            }
        }
    }

    /// Has uv install a Python for all packages, into the folder that it has for these.
    async fn install_interpreter(
        &self,
        dir: &Path,
        asked: Option<&str>,
    ) -> Result<(), InstallError> {
        let own = self.request.env.get("UV_PYTHON_INSTALL_DIR");
        let own = own.map(PathBuf::from);
        if let Some(folder) = &own {
            let made = std::fs::create_dir_all(folder);
            made.map_err(InstallError::file(folder.clone(), "made"))?;
        }
        let fetching = self.fetching().await?;
        let helper = fetching.helper(dir, own.as_slice(), &self.lock);
        Ok(python::install_interpreter(&helper, asked).await?)
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

    /// How a command is run that only answers a question: which version of Node or Python there is.
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
