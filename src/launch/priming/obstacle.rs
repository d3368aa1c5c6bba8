//! Why a launch is not primed, as far as its launch spec tells.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::super::packages::Installed;
use super::super::spec::LaunchSpec;

/// The program that runs the program of a package.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interpreter {
    /// Python, whose workers are forked from a template.
    Python,
    /// Node, whose workers have waited.
    Node,
}

impl Interpreter {
    /// The interpreter of an installed package's program; `None` where that is unknown.
    pub fn of(installed: &Installed) -> Option<Self> {
        let folder = installed.program.parent()?;
        if folder == installed.folder.join("venv/bin") {
            Some(Self::Python)
        } else if folder == installed.folder.join("node_modules/.bin") {
            Some(Self::Node)
        } else {
            None
        }
    }

    /// Beginnings of variables that the interpreter reads when it starts, or that decide how.
    const fn deciding(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["PYTHON"],
            Self::Node => &["NODE_", "UV_THREADPOOL_SIZE", "UV_USE_IO_URING"],
        }
    }

    /// Variables that begin so and are read when the interpreter has started.
    const fn undeciding(self) -> &'static [&'static str] {
        match self {
            Self::Python => &[],
            // Libraries read the first; the second is heeded late as well (`waiting.cjs`); a process that waits has the third of its launches.
            Self::Node => &["NODE_ENV", "NODE_COMPILE_CACHE", CERTIFICATES],
        }
    }
}

/// Beginnings of variables that decide what native libraries do when they are loaded. A template, or a process that waits, has none of them.
const DECIDING: [&str; 15] = [
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
    /// The program is no console script of a virtual environment, and none in `node_modules`.
    #[error("it is no program of a Python or node package")]
    NoPackage,
    /// The sandbox of the launch cannot be given to a process that was forked from a template, or has waited.
    #[error("{0}")]
    Sandbox(&'static str),
    /// The environment of the launch decides how the interpreter starts.
    #[error("its variable `{}` decides how its interpreter or a native library starts", .0.0)]
    Variable(NativeVariable),
    /// The server has copies of dependencies, which each worker imports for itself.
    #[error("`writable_dependencies` are imported from the worker's own copies")]
    Writable,
    /// Node sizes its heap when it starts.
    #[error("`limits.memory` decides how large a heap node makes when it starts")]
    Memory,
}

/// Why a launch of an installed package, started directly, is not primed; `None` where nothing speaks against it.
pub fn obstacle(spec: &LaunchSpec, installed: &Installed) -> Option<Obstacle> {
    let Some(interpreter) = Interpreter::of(installed) else {
        return Some(Obstacle::NoPackage);
    };
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
    if interpreter == Interpreter::Node && !spec.writable.is_empty() {
        return Some(Obstacle::Writable);
    }
    if interpreter == Interpreter::Node && spec.limits.memory.is_some() {
        return Some(Obstacle::Memory);
    }
    let begins = DECIDING.iter().chain(interpreter.deciding());
    let is_deciding = |name: &&String| {
        begins.clone().any(|it| name.starts_with(it))
            && !interpreter.undeciding().contains(&name.as_str())
    };
    let deciding = spec.env.keys().find(is_deciding);
    deciding.map(|name| Obstacle::Variable(NativeVariable(name.clone())))
}

/// Names the file of certificates that node trusts besides, when it starts. Workers get stdiopool's own, as a rule.
const CERTIFICATES: &str = "NODE_EXTRA_CA_CERTS";

/// Whether a variable chooses the locale, by which an interpreter decides on encodings when it starts, or certificates.
fn is_read_at_start(name: &str) -> bool {
    ["LANG", "LANGUAGE", CERTIFICATES].contains(&name) || name.starts_with("LC_")
}

/// The variables of an environment that an interpreter reads when it starts: those that choose its locale, and certificates. A template, or a process
/// that waits, has them of the launch that it was made for, and serves launches with equal ones.
pub fn read_at_start(env: &BTreeMap<String, SecretString>) -> BTreeMap<String, String> {
    let read = env.iter().filter(|(name, _)| is_read_at_start(name));
    read.map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect()
}
