//! What a start of each server's command will come to.

use super::finding::{Finding, Weight, path};
use crate::config::{Arg, Config};
use crate::ids::ServerName;
use crate::routing::LaunchForecast;
use crate::tenancy::DryRun;

/// The launch of one server's command, as far as it can be foreseen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForeseenLaunch {
    /// The server.
    pub server: ServerName,
    /// What the start will come to.
    pub forecast: LaunchForecast,
}

/// For each server what a start of its command will come to, in the environment of this process. Looks at files, so that
/// it may block.
pub fn launches(config: &Config) -> Vec<ForeseenLaunch> {
    let dry_run = DryRun::of(config);
    let servers = config.servers.iter();
    // One without a command is a mistake of the file.
    let servers = servers.filter(|(_, server)| !server.command.is_empty());
    servers
        .map(|(name, server)| {
            let args = words(&server.args);
            let (spec, installs) = (dry_run.spec(name, server), dry_run.installs(server));
            ForeseenLaunch {
                server: name.clone(),
                forecast: LaunchForecast::of(name, server, &spec, &args, installs),
            }
        })
        .collect()
}

/// Arguments as far as they are one for all tenants.
fn words(args: &[Arg]) -> Vec<Option<&str>> {
    let words = args.iter().flat_map(|arg| match arg {
        Arg::Always(template) => vec![template.as_literal()],
        Arg::When { args, .. } => vec![None; args.len()],
    });
    words.collect()
}

impl ForeseenLaunch {
    /// The finding that the forecast comes to, if there is anything to be said.
    pub(super) fn finding(&self) -> Option<Finding> {
        let (weight, message) = match &self.forecast {
            LaunchForecast::Refused(why) => {
                let text = format!("server `{}` is not started: {why}", self.server);
                (Weight::Failing, text)
            }
            LaunchForecast::NotUnderstood(why) => (Weight::Odd, why.clone()),
            LaunchForecast::Package(_) | LaunchForecast::AsWritten | LaunchForecast::Differs(_) => {
                return None;
            }
        };
        let of_server = |key| path(["servers", self.server.as_str(), key]);
        let rests_on = ["args", "env", "cwd", "launch"].map(of_server);
        Some(Finding {
            rests_on: [rests_on.to_vec(), vec![path(["pool", "pass_env"])]].concat(),
            ..Finding::new(
                weight,
                ["servers", self.server.as_str(), "command"],
                message,
            )
        })
    }

    /// The forecast in words, for people.
    pub fn text(&self) -> String {
        let server = &self.server;
        match &self.forecast {
            LaunchForecast::Package(name) => {
                format!("server `{server}`: package `{name}` is installed and started from there")
            }
            LaunchForecast::AsWritten => {
                format!("server `{server}`: its command is run as written")
            }
            LaunchForecast::NotUnderstood(_) => {
                format!("server `{server}`: its command is run as written, as warned of")
            }
            LaunchForecast::Refused(_) => format!("server `{server}`: it is not started"),
            LaunchForecast::Differs(why) => {
                format!(
                    "server `{server}`: it is up to each tenant's config what is started ({why})"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse;

    fn forecast(server: &str) -> (LaunchForecast, Option<Finding>) {
        let text = format!("[servers.x]\n{server}\n");
        let config = parse(&text, "pool.toml", Path::new("/nowhere")).expect("no mistakes");
        let mut launches = launches(&config);
        assert_eq!(launches.len(), 1);
        let launch = launches.remove(0);
        let finding = launch.finding();
        (launch.forecast, finding)
    }

    #[test]
    fn each_line_comes_to_what_its_start_does() {
        let npx = |args: &str| forecast(&format!("command = \"npx\"\nargs = [{args}]"));
        let package = |name: &str| (LaunchForecast::Package(name.to_owned()), None);
        // What tenants set stands behind the package's name.
        assert_eq!(
            npx(r#""-y", "pkg@1.0.0", "${config.x}""#),
            package("pkg@1.0.0")
        );
        let (differs, finding) = npx(r#""-y", "${config.x}""#);
        assert!(matches!(differs, LaunchForecast::Differs(_)), "{differs:?}");
        assert_eq!(finding, None);
        let (odd, finding) = npx(r#""--frobnicate", "pkg""#);
        let finding = finding.expect("told");
        let told = "the command of server `x` is run as written: what `--frobnicate` changes is not known (`launch = \"as-is\"` says that it shall be)";
        assert_eq!(odd, LaunchForecast::NotUnderstood(told.to_owned()));
        assert_eq!((finding.weight, &*finding.message), (Weight::Odd, told));
        assert_eq!(finding.key, path(["servers", "x", "command"]));
        assert_eq!(
            forecast("command = \"cat\""),
            (LaunchForecast::AsWritten, None)
        );
    }
}
