//! What is asked for of the package cache, and what comes of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::downloads::Left;
use super::manifest::hex;
use super::scripts::Unscripted;
use crate::fields;
use crate::launch::line::{Entry, PackageRun, Recipe};

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
