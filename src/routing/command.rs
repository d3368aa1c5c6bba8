//! How the command of a server is started: as it is written, or as the program of a package that its line names.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use crate::config::downloads::{Word, downloaders};
use crate::config::{Arg, LaunchMode, Server};
use crate::ids::ServerName;
use crate::launch::packages::view::ViewError;
use crate::launch::packages::{Installer, Request, Slot};
use crate::launch::{
    LaunchSpec, PackageRun, Recipe, SettingsFile, takes_precedence, understand, unheeded, withheld,
    withheld_files,
};
use crate::tenancy::InstallEnvironment;

/// The environment of a server's installs, kept once for all its orders.
#[derive(Clone, Default, Debug)]
pub(crate) struct Installs {
    variables: Arc<BTreeMap<String, String>>,
    /// Why the command does not fit all tenants.
    differs: Option<String>,
    files: Arc<[SettingsFile]>,
}

impl From<InstallEnvironment> for Installs {
    fn from(environment: InstallEnvironment) -> Self {
        Self {
            variables: Arc::new(environment.variables),
            differs: environment.differs,
            files: environment.files.into(),
        }
    }
}

/// Why nothing is started in place of a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStarted {
    /// There is no private view of its package.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Run as written, it would have its packages from elsewhere than the operator's settings say.
    #[error(
        "it would be run as written ({why}), and {}",
        withheld.remedy(server)
    )]
    OtherRegistry {
        why: String,
        withheld: Withheld,
        server: ServerName,
    },
}

/// What of the operator's settings decides where the packages of a command come from, and does not reach its worker.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Withheld {
    /// Names of variables.
    variables: Vec<String>,
    /// Files, each with the variable that says the same.
    files: Vec<(PathBuf, &'static str)>,
}

impl Withheld {
    fn of(spec: &LaunchSpec, words: &[Word], installs: &Installs) -> Self {
        let variables = withheld(&spec.program, words, &installs.variables, &spec.env);
        let files = withheld_files(&spec.program, words, &installs.files, &spec.env);
        let files = files
            .into_iter()
            .map(|file| (file.path().to_owned(), file.variable()));
        Self {
            variables: variables.into_iter().map(ToOwned::to_owned).collect(),
            files: files.collect(),
        }
    }

    /// Whether nothing is withheld.
    pub(crate) fn is_empty(&self) -> bool {
        self.variables.is_empty() && self.files.is_empty()
    }

    /// What comes of those differences, and what to do.
    fn remedy(&self, server: &ServerName) -> String {
        let variables = self.variables.join(", ");
        let of_variables = (!variables.is_empty()).then(|| format!("without {variables} of stdiopool's own environment it would ask another registry for its packages: name that in `pool.pass_env`, which gives it to every worker, or set it in `servers.{server}.env`"));
        let of_files = self.files.iter().map(|(path, variable)| format!("without {} of the user that stdiopool runs as, which says where packages come from and is not in a worker's home, it would ask another registry for them: set {variable} in `servers.{server}.env`", path.display()));
        let all: Vec<_> = of_variables.into_iter().chain(of_files).collect();
        all.join("; and ")
    }
}

/// How the command of a plan is started.
#[derive(Debug)]
pub enum Start {
    /// As written: it runs no package, or shall not be understood.
    AsWritten,
    /// As written, though it runs a package, and why.
    NotUnderstood(String),
    /// The program of a package.
    Package(Box<PackageOrder>),
    /// Not at all: as written, it would ask another registry than stdiopool's own environment names.
    Refused {
        /// Why the command would be run as written.
        why: String,
        /// What of the operator's settings decides it.
        withheld: Withheld,
    },
}

/// A package that a plan's workers are started from.
#[derive(Debug)]
pub struct PackageOrder {
    pub(crate) run: PackageRun,
    env: Arc<BTreeMap<String, String>>,
    is_pinned: bool,
    /// Settings without which the command as written would ask another registry; empty if there are none.
    pub(crate) withheld: Withheld,
    /// Found when it is first needed; `None` in it when there are too many.
    slot: OnceLock<Option<Arc<Slot>>>,
}

impl PackageOrder {
    /// The install of the package that the server runs.
    pub(super) fn slot(
        &self,
        server: &ServerName,
        installer: &Arc<Installer>,
    ) -> Option<Arc<Slot>> {
        let find = || {
            let request = Request::new(&self.run, Arc::clone(&self.env), self.is_pinned);
            installer.slot(server, request)
        };
        self.slot.get_or_init(find).clone()
    }
}

impl Start {
    /// How that command is started.
    pub(crate) fn of(server: &Server, spec: &LaunchSpec, installs: Option<&Installs>) -> Self {
        let args: Vec<_> = spec.exposed_args().into_iter().map(Some).collect();
        let words = args.iter().flatten().map(|arg| Word::known(arg));
        let words: Vec<_> = words.collect();
        let installs = installs.cloned().unwrap_or_default();
        Self::of_words(server, spec, &args, &words, installs)
    }

    /// How the command of a launch is started whose arguments are these; `None` among them stands for one that is known
    /// at a start only. The words are these arguments, as far as they are known.
    pub(super) fn of_words(
        server: &Server,
        spec: &LaunchSpec,
        args: &[Option<&str>],
        words: &[Word],
        installs: Installs,
    ) -> Self {
        let withheld = Withheld::of(spec, words, &installs);
        let refused = |why: String| Self::Refused {
            why,
            withheld: withheld.clone(),
        };
        let plain = |why: &str| {
            if withheld.is_empty() {
                Self::AsWritten
            } else {
                refused(why.to_owned())
            }
        };
        let as_written = |why: String| {
            if withheld.is_empty() {
                Self::NotUnderstood(why)
            } else {
                refused(why)
            }
        };
        if server.launch == LaunchMode::AsIs {
            return plain("`launch = \"as-is\"`");
        }
        let run = match understand(&spec.program, args) {
            None => return plain(&by_whom(&spec.program, words)),
            Some(Err(why)) => return as_written(spec.redactor.redact(&why.to_string())),
            Some(Ok(run)) => run,
        };
        if let Some(why) = takes_precedence(spec, &run) {
            return as_written(why);
        }
        if let Some(name) = unheeded(&spec.program, words, &installs.variables) {
            return as_written(format!("its launcher goes by `{name}`"));
        }
        let files = withheld_files(&spec.program, words, &installs.files, &spec.env);
        if let Some(file) = files.into_iter().find(|file| file.is_unheeded()) {
            let file = file.path().display();
            return as_written(format!("its launcher goes by {file}"));
        }
        if let Some(why) = depends_on_tenant(server, &run) {
            return as_written(why);
        }
        if let Some(why) = installs.differs {
            return as_written(why);
        }
        Self::Package(Box::new(PackageOrder {
            run,
            env: installs.variables,
            is_pinned: server.pin,
            withheld,
            slot: OnceLock::new(),
        }))
    }
}

/// Why a command is run as written that is none of a launcher that is known.
fn by_whom(program: &str, words: &[Word]) -> String {
    let found = downloaders(program, words);
    let program = program.rsplit('/').next().unwrap_or_default();
    match found.first().filter(|it| it.program != program) {
        Some(behind) => format!("`{program}` runs `{}`", behind.program),
        None => "what it runs is known to its launcher alone".to_owned(),
    }
}

/// Why what is installed may be another tenant's to choose: its line says where packages come from, and the config has a
/// part in that.
fn depends_on_tenant(server: &Server, run: &PackageRun) -> Option<String> {
    let Recipe::PyPi { options, .. } = &run.recipe else {
        return None;
    };
    let is_same_for_all = server.args.iter().all(|arg| match arg {
        Arg::Always(template) => template.as_literal().is_some(),
        Arg::When { .. } => false,
    });
    let of_index = options.iter().find(|option| option.contains("index"))?;
    let flag = of_index.split('=').next().unwrap_or_default();
    (!is_same_for_all).then(|| format!("`{flag}` may differ from tenant to tenant"))
}

/// What is said of a command that runs a package and is run as it is written.
pub(crate) fn as_written(server: &ServerName, why: &str) -> String {
    format!(
        "the command of server `{server}` is run as written: {why} (`launch = \"as-is\"` says that it shall be)"
    )
}
