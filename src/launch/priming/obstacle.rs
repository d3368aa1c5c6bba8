//! Why a launch is not primed, as far as its launch spec tells.

use std::collections::BTreeMap;
use std::path::Path;

use secrecy::{ExposeSecret, SecretString};

use super::super::packages::Installed;
use super::super::spec::LaunchSpec;

/// Beginnings of variables that decide how an interpreter starts, or what native libraries do when they are loaded. Of these a
/// template knows nothing.
const DECIDING: [&str; 16] = [
    "PYTHON",
    "LD_",
    "GLIBC_",
    "MALLOC_",
    "GCONV_",
    "LOCPATH",
    "NLSPATH",
    "OPENSSL_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "OPENBLAS_",
    "MKL_",
    "NUMEXPR_",
    "RUST_",
    "GRPC_",
];

/// A variable that decides how an interpreter or a native library starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NativeVariable(pub String);

/// Why a launch is not primed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Obstacle {
    /// `prime = "off"`.
    #[error("`prime = \"off\"`")]
    Off,
    /// The host does not allow what it takes.
    #[error("{0}")]
    Host(&'static str),
    /// The program is no console script of a virtual environment.
    #[error("it is no program of a Python package")]
    NoPython,
    /// The sandbox of the launch cannot be given to a process that was forked from a template.
    #[error("{0}")]
    Sandbox(&'static str),
    /// The environment of the launch decides how the interpreter starts.
    #[error("its variable `{}` decides how Python or a native library starts", .0.0)]
    Variable(NativeVariable),
}

/// Why a launch of an installed package, started directly, is not primed; `None` where nothing speaks against it.
pub fn obstacle(spec: &LaunchSpec, installed: &Installed) -> Option<Obstacle> {
    let scripts = installed.folder.join("venv/bin");
    if installed.program.parent() != Some(Path::new(&scripts)) {
        return Some(Obstacle::NoPython);
    }
    let Some(sandbox) = &spec.sandbox else {
        return Some(Obstacle::Sandbox("`sandbox = \"none\"`"));
    };
    let refused = if sandbox.strict.is_some() {
        Some("`sandbox = \"strict\"`")
    } else if sandbox.observed.is_some() {
        Some("it is recorded")
    } else if !sandbox.network.is_host() {
        Some("its network is its own")
    } else if sandbox.user().is_none() {
        Some("tenants have no users of their own: stdiopool is not root")
    } else if spec.may_gain_privileges {
        Some("it may gain privileges")
    } else {
        None
    };
    if let Some(why) = refused {
        return Some(Obstacle::Sandbox(why));
    }
    let mut names = spec.env.keys();
    let deciding = names.find(|name| DECIDING.iter().any(|it| name.starts_with(it)));
    deciding.map(|name| Obstacle::Variable(NativeVariable(name.clone())))
}

/// Whether a variable chooses the locale, by which an interpreter decides on encodings when it starts.
fn is_of_locale(name: &str) -> bool {
    ["LANG", "LANGUAGE"].contains(&name) || name.starts_with("LC_")
}

/// The variables of an environment that choose its locale. A template has them of the launch that it was made for, and
/// serves launches with equal ones.
pub fn locale_of(env: &BTreeMap<String, SecretString>) -> BTreeMap<String, String> {
    let of_locale = env.iter().filter(|(name, _)| is_of_locale(name));
    of_locale
        .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect()
}
