//! What package a command line runs, as far as that can be told.

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
        /// Packages beside it.
        with: Vec<String>,
        /// The Python it wants.
        python: Option<String>,
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

    /// A command that fetches it and does nothing else.
    pub fn fetch(&self) -> (&'static str, Vec<String>) {
        match self {
            Self::Npm { specs } => {
                let mut args = vec!["exec".to_owned(), "--yes".to_owned()];
                args.extend(specs.iter().map(|spec| format!("--package={spec}")));
                args.push("--call=true".to_owned());
                ("npm", args)
            }
            Self::PyPi { from, with, python } => {
                let mut args = vec!["--quiet".to_owned()];
                for with in with {
                    args.extend(["--with".to_owned(), with.clone()]);
                }
                if let Some(python) = python {
                    args.extend(["--python".to_owned(), python.clone()]);
                }
                let run = ["--from", from, "python", "-c", "pass"];
                args.extend(run.map(ToOwned::to_owned));
                ("uvx", args)
            }
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Npm { specs } => specs.join(", "),
            Self::PyPi { from, .. } => from.clone(),
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
    let (mut from, mut with, mut python) = (None, Vec::new(), None);
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
            "--with" => with.push(value()?),
            "-p" | "--python" => python = Some(value()?),
            "-q" | "--quiet" | "--offline" | "--" => {}
            _ if arg.starts_with('-') => return None,
            tool => {
                let from = from.unwrap_or_else(|| tool.to_owned());
                return Some(Package::PyPi { from, with, python });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(line: &str) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let args: Vec<_> = words[1..]
            .iter()
            .map(|word| (*word != "?").then_some(*word))
            .collect();
        let (program, args) = Package::of(words[0], &args)?.fetch();
        Some(format!("{program} {}", args.join(" ")))
    }

    #[test]
    fn the_package_is_found_as_the_launchers_find_it() {
        let npm = |spec: &str| Some(format!("npm exec --yes --package={spec} --call=true"));
        assert_eq!(fetch("npx -y @a/b@1.2 --port 3 ?"), npm("@a/b@1.2"));
        assert_eq!(fetch("/usr/bin/npx --package=c d"), npm("c"));
        assert_eq!(fetch("npm exec -y -p c -- d"), npm("c"));
        let uv = |rest: &str| Some(format!("uvx --quiet {rest} python -c pass"));
        assert_eq!(
            fetch("uvx mcp-server-time@1 --tz ?"),
            uv("--from mcp-server-time@1")
        );
        assert_eq!(
            fetch("uv tool run --from=git+https://x/y --with z -p 3.12 tool"),
            uv("--with z --python 3.12 --from git+https://x/y")
        );
        for unknown in [
            "node x.js",
            "npx",
            "npx ?",
            "npx --call=x y",
            "uvx --from ? tool",
            "npm run x",
        ] {
            assert_eq!(fetch(unknown), None, "{unknown}");
        }
    }
}
