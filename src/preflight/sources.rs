//! Where the packages come from that workers download themselves, of commands that are run as written: stdiopool's own
//! environment may say it, which workers do not see.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use secrecy::ExposeSecret;

use super::finding::{Finding, Weight, path};
use super::launches::ForeseenLaunch;
use crate::config::Config;
use crate::config::downloads::{Family, Kind, Word, downloaders, kind};
use crate::ids::ServerName;
use crate::launch::{LaunchSpec, lacking_of, says_from_where, unseen};
use crate::routing::LaunchForecast;
use crate::tenancy::{DryRun, InstallEnvironment};
use crate::worker;

/// Servers that are named in one message; how many more there are is said.
const MOST_NAMED: usize = 8;
/// How much of a program is read to see by what it is run.
const FIRST_LINE: u64 = 256;

/// What workers may download from elsewhere than stdiopool's own environment says, beside what is refused for that. Looks
/// at files, so that it may block.
pub(super) fn findings(config: &Config, launches: &[ForeseenLaunch]) -> Vec<Finding> {
    let dry_run = DryRun::of(config);
    let mut findings = Vec::new();
    let mut opaque = Opaque::default();
    for launch in launches {
        let is_as_written = matches!(
            launch.forecast,
            LaunchForecast::AsWritten | LaunchForecast::NotUnderstood(_)
        );
        let name = &launch.server;
        let Some(server) = config.servers.get(name).filter(|_| is_as_written) else {
            continue;
        };
        let start = AsWritten {
            name,
            words: server.words(),
            spec: dry_run.spec(name, server),
            installs: dry_run.installs(server),
        };
        let of_line = start.of_line();
        if of_line.is_empty() && start.downloads_nothing_itself() {
            opaque.add(&start, config);
        }
        findings.extend(of_line);
    }
    findings.extend(opaque.finding());
    findings
}

/// The names of those variables of this process's environment that say to installs where packages come from.
pub fn seen_by_installs() -> Vec<String> {
    let names = std::env::vars_os().filter(|(_, value)| !value.is_empty());
    let names = names.filter_map(|(name, _)| name.into_string().ok());
    let mut names: Vec<_> = names.filter(|name| says_from_where(name)).collect();
    names.sort();
    names
}

/// A start of a command as it is written.
struct AsWritten<'a> {
    name: &'a ServerName,
    words: Vec<Word>,
    spec: LaunchSpec,
    installs: InstallEnvironment,
}

impl AsWritten<'_> {
    fn of_line(&self) -> Vec<Finding> {
        let Self { name, spec, .. } = self;
        let variables = &self.installs.variables;
        let unseen = unseen(&spec.program, &self.words, variables, &spec.env);
        let remedy = format!(
            "name that in `pool.pass_env`, which gives it to every worker, or set it in `servers.{name}.env`"
        );
        let named = unseen.named.map(|(program, names)| {
            let names = names.join(", ");
            format!("server `{name}` is run as written and may run `{program}`, which would not see {names} of stdiopool's own environment and ask another registry for packages: {remedy}")
        });
        let proxies = unseen.proxies.map(|(program, names)| {
            let names = names.join(", ");
            format!("server `{name}` is run as written, and its `{program}` would download without {names} of stdiopool's own environment: {remedy}")
        });
        let messages = named.into_iter().chain(proxies);
        let found = messages.map(|message| of_command(name, message));
        found.collect()
    }

    fn downloads_nothing_itself(&self) -> bool {
        downloaders(&self.spec.program, &self.words).is_empty()
    }

    /// The families whose packages the program may download, though its line does not say so; empty for one that is no script.
    fn may_use(&self, config: &Config) -> Vec<Family> {
        let by = |program: &str| match kind(name_of(program)) {
            Some(Kind::Interpreter(families)) => Some(families.to_vec()),
            Some(Kind::Shell) => Some(Family::ALL.to_vec()),
            Some(Kind::Runner | Kind::Feeder | Kind::Finder | Kind::Elsewhere) | None => None,
        };
        by(&self.spec.program)
            .or_else(|| {
                let path = self.spec.env.get("PATH")?.expose_secret();
                let found =
                    worker::find_program(&self.spec.program, path, &config.base_dir).ok()?;
                by(&interpreter(&found)?)
            })
            .unwrap_or_default()
    }
}

fn name_of(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or_default()
}

/// What runs a script, by its first line; `None` for what is no script.
fn interpreter(program: &Path) -> Option<String> {
    let mut begin = Vec::new();
    let file = std::fs::File::open(program).ok()?;
    file.take(FIRST_LINE).read_to_end(&mut begin).ok()?;
    let text = String::from_utf8_lossy(&begin);
    let mut words = text.lines().next()?.strip_prefix("#!")?.split_whitespace();
    let first = words.next()?;
    let mut behind_env = || words.find(|word| !word.contains(['-', '=']));
    match name_of(first) {
        "env" => behind_env().map(ToOwned::to_owned),
        _ => Some(first.to_owned()),
    }
}

/// Servers that may download what their line does not say.
#[derive(Default)]
struct Opaque {
    servers: Vec<ServerName>,
    variables: BTreeSet<String>,
}

impl Opaque {
    fn add(&mut self, start: &AsWritten<'_>, config: &Config) {
        let variables = &start.installs.variables;
        if lacking_of(&Family::ALL, variables, &start.spec.env).is_empty() {
            return;
        }
        let lacking = lacking_of(&start.may_use(config), variables, &start.spec.env);
        if lacking.is_empty() {
            return;
        }
        self.servers.push(start.name.clone());
        let names = lacking.into_iter().map(ToOwned::to_owned);
        self.variables.extend(names);
    }

    fn finding(self) -> Option<Finding> {
        let first = self.servers.first()?;
        let named = self.servers.iter().take(MOST_NAMED);
        let mut named = named
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        if self.servers.len() > MOST_NAMED {
            named += &format!(" and {} more", self.servers.len() - MOST_NAMED);
        }
        let variables = self.variables.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!(
            "what programs download themselves that are run as written (servers {named}) comes from elsewhere than {variables} of stdiopool's own environment says, which they do not see: if they download anything, name that in `pool.pass_env`, which gives it to every worker, or set it in `servers.NAME.env`; set to \"\" there, it is as good as not set, and this is not told"
        );
        Some(of_command(first, message))
    }
}

fn of_command(name: &ServerName, message: String) -> Finding {
    let of_server = |key| path(["servers", name.as_str(), key]);
    let rests_on = ["args", "env", "launch"].map(of_server);
    Finding {
        rests_on: [rests_on.to_vec(), vec![path(["pool", "pass_env"])]].concat(),
        ..Finding::new(Weight::Odd, ["servers", name.as_str(), "command"], message)
    }
}
