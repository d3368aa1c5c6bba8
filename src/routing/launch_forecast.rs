//! What a start of a server's command will come to, for who looks before anything is started.

use super::command::{Installs, NotStarted, Start, as_written};
use crate::config::Server;
use crate::ids::ServerName;
use crate::launch::{LaunchSpec, known_at_a_start};
use crate::tenancy::InstallEnvironment;

/// The expected result of starting a server's command, as far as its line and this host can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LaunchForecast {
    /// The program of that package is started, once it is installed.
    Package(String),
    /// The command is run as it is written, as it shall be or as it runs no package.
    AsWritten,
    /// The command is run as it is written though it runs a package; why, as it is logged then.
    NotUnderstood(String),
    /// No start succeeds; why, as callers are told then.
    Refused(String),
    /// The start is up to values that differ from tenant to tenant; what is not known before.
    Differs(String),
}

impl LaunchForecast {
    /// The forecast for a server with that launch, whose arguments are these; `None` among them stands for one that is known at a start
    /// only. Looks at a few files.
    pub fn of(
        name: &ServerName,
        server: &Server,
        spec: &LaunchSpec,
        args: &[Option<&str>],
        installs: InstallEnvironment,
    ) -> Self {
        let unknown = args.iter().position(Option::is_none);
        let is_unknown = |why: &str| unknown.is_some_and(|at| why == known_at_a_start(at));
        let words = server.words();
        match Start::of_words(server, spec, args, &words, Installs::from(installs)) {
            Start::AsWritten => Self::AsWritten,
            Start::Package(package) => Self::Package(package.run.recipe.name()),
            Start::NotUnderstood(why) | Start::Refused { why, .. } if is_unknown(&why) => {
                Self::Differs(why)
            }
            Start::NotUnderstood(why) => Self::NotUnderstood(as_written(name, &why)),
            Start::Refused { why, withheld } => {
                let server = name.clone();
                let refused = NotStarted::OtherRegistry {
                    why,
                    withheld,
                    server,
                };
                Self::Refused(refused.to_string())
            }
        }
    }
}
