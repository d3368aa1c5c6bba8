//! What package a command line runs, as far as that can be told: for `prefetch` alone. Starts go by [`line`](super::line).

/// A package that a launcher fetches before it runs something of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Package {
    /// `npx`, `npm exec`: packages of npm.
    Npm {
        /// What to install, with versions as written.
        specs: Vec<String>,
    },
    /// `uvx`, `uv tool run`: a package of PyPI.
    PyPi {
        /// The package, with its version as written.
        from: String,
    },
}

impl Package {
    /// The package of a command line; `None` for commands that fetch nothing, and for what is not
    /// understood. `None` among the arguments stands for one that is not known before the start.
    pub fn of(command: &str, args: &[Option<&str>]) -> Option<Self> {
        let program = command.rsplit('/').next()?;
        match (program, args) {
            ("npx", rest) | ("npm", [Some("exec" | "x"), rest @ ..]) => npm(rest),
            ("uvx", rest) | ("uv", [Some("tool"), Some("run"), rest @ ..]) => pypi(rest),
            _ => None,
        }
    }

    /// The package's name, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Npm { specs } => specs.join(", "),
            Self::PyPi { from } => from.clone(),
        }
    }
}

fn npm(args: &[Option<&str>]) -> Option<Package> {
    let mut specs = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let arg = (*arg)?;
        match arg.split_once('=') {
            Some(("--package" | "-p", spec)) => specs.push(spec.to_owned()),
            _ if ["-p", "--package"].contains(&arg) => specs.push((*args.next()?)?.to_owned()),
            _ if ["-y", "--yes", "-q", "--quiet", "--prefer-offline", "--"].contains(&arg) => {}
            // A flag that may change what is run.
            _ if arg.starts_with('-') => return None,
            _ => {
                if specs.is_empty() {
                    specs.push(arg.to_owned());
                }
                return Some(Package::Npm { specs });
            }
        }
    }
    None
}

fn pypi(args: &[Option<&str>]) -> Option<Package> {
    let mut from = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let arg = (*arg)?;
        let (flag, inline) = match arg.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag, Some(value)),
            _ => (arg, None),
        };
        let mut value = || match inline {
            Some(value) => Some(value.to_owned()),
            None => Some((*args.next()?)?.to_owned()),
        };
        match flag {
            "--from" => from = Some(value()?),
            "--with" | "-p" | "--python" => drop(value()?),
            "-q" | "--quiet" | "--offline" | "--" => {}
            _ if arg.starts_with('-') => return None,
            tool => {
                let from = from.unwrap_or_else(|| tool.to_owned());
                return Some(Package::PyPi { from });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(line: &str) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let args: Vec<_> = words[1..]
            .iter()
            .map(|word| (*word != "?").then_some(*word))
            .collect();
        Package::of(words[0], &args).map(|package| package.name())
    }

    #[test]
    fn the_package_is_found_as_the_launchers_find_it() {
        for (line, package) in [
            ("npx -y @a/b@1.2 --port 3 ?", "@a/b@1.2"),
            ("/usr/bin/npx --package=c d", "c"),
            ("npm exec -y -p c -p d -- e", "c, d"),
            ("uvx mcp-server-time@1 --tz ?", "mcp-server-time@1"),
            (
                "uv tool run --from=git+https://x/y --with z -p 3.12 tool",
                "git+https://x/y",
            ),
        ] {
            assert_eq!(name(line).as_deref(), Some(package), "{line}");
        }
        for unknown in [
            "node x.js",
            "npx",
            "npx ?",
            "npx --call=x y",
            "uvx --from ? tool",
            "npm run x",
        ] {
            assert_eq!(name(unknown), None, "{unknown}");
        }
    }
}
