//! npx, npm exec, pnpm dlx and bunx.

use super::names::NpmSpec;
use super::{Entry, NOTHING_NAMED, NodeLauncher, PackageRun, Recipe, Words, split, unknown_flag};

/// Flags of npm that change nothing of what is run: answers to its question whether to install,
/// what it prints, and how it uses its cache.
const IDLE: [&str; 17] = [
    "-y",
    "--yes",
    "-q",
    "--quiet",
    "-s",
    "--silent",
    "-d",
    "--verbose",
    "--prefer-offline",
    "--prefer-online",
    "--no-audit",
    "--no-fund",
    "--no-progress",
    "--no-update-notifier",
    "--no-color",
    "--color",
    "--ignore-existing",
];

/// What the flags before the program said.
#[derive(Default)]
struct Said {
    packages: Vec<NpmSpec>,
}

/// `npx [flags] [--] PROGRAM [args]`: everything behind the program is the program's.
pub(super) fn npx(mut words: Words<'_>) -> Result<PackageRun, String> {
    let mut said = Said::default();
    let mut is_over = false;
    while let Some(word) = words.next() {
        let (_, word) = word?;
        if is_over || !word.starts_with('-') {
            return said.run(word, words.rest(), NodeLauncher::Npm);
        }
        match split(word) {
            ("--", None) => is_over = true,
            (flag @ ("-p" | "--package"), inline) => said.package(words.value(flag, inline)?)?,
            (flag, inline) => idle(flag, inline, &mut words)?,
        }
    }
    Err(NOTHING_NAMED.to_owned())
}

/// `npm exec [flags] PROGRAM [flags] [-- args]`: flags are npm's up to `--`, wherever they stand.
pub(super) fn npm_exec(mut words: Words<'_>) -> Result<PackageRun, String> {
    let mut said = Said::default();
    let mut positional = Vec::new();
    while let Some(word) = words.next() {
        let (at, word) = word?;
        match split(word) {
            ("--", None) => {
                positional.extend(words.rest());
                break;
            }
            // Not `-p`: that is `--parseable` here.
            (flag @ "--package", inline) => said.package(words.value(flag, inline)?)?,
            (flag, inline) if word.starts_with('-') => idle(flag, inline, &mut words)?,
            _ => positional.push(at),
        }
    }
    let (program, tail) = positional.split_first().ok_or(NOTHING_NAMED)?;
    let program = words.args.get(*program).copied().flatten();
    let program = program.ok_or("its program is known only when it is started")?;
    said.run(program, tail.to_vec(), NodeLauncher::Npm)
}

/// `pnpm dlx [flags] PROGRAM [args]`.
pub(super) fn pnpm_dlx(mut words: Words<'_>) -> Result<PackageRun, String> {
    let mut said = Said::default();
    while let Some(word) = words.next() {
        let (_, word) = word?;
        match split(word) {
            (flag @ "--package", inline) => said.package(words.value(flag, inline)?)?,
            ("-s" | "--silent" | "--reporter", Some(_)) | ("-s" | "--silent", None) => {}
            (flag, _) if flag.starts_with('-') => return Err(unknown_flag(flag)),
            _ => return said.run(word, words.rest(), NodeLauncher::Pnpm),
        }
    }
    Err(NOTHING_NAMED.to_owned())
}

/// `bunx [flags] PROGRAM [args]`.
pub(super) fn bunx(mut words: Words<'_>) -> Result<PackageRun, String> {
    let mut said = Said::default();
    while let Some(word) = words.next() {
        let (_, word) = word?;
        match split(word) {
            (flag @ ("-p" | "--package"), inline) => said.package(words.value(flag, inline)?)?,
            ("--silent" | "--verbose" | "-y", None) => {}
            // `--bun` among them: it puts another runtime in node's place.
            (flag, _) if flag.starts_with('-') => return Err(unknown_flag(flag)),
            _ => return said.run(word, words.rest(), NodeLauncher::Bun),
        }
    }
    Err(NOTHING_NAMED.to_owned())
}

/// Passes over a flag without influence.
fn idle<'a>(flag: &str, inline: Option<&'a str>, words: &mut Words<'a>) -> Result<(), String> {
    match (flag, inline) {
        ("--loglevel", inline) => words.value(flag, inline).map(drop),
        (_, None | Some("true")) if IDLE.contains(&flag) => Ok(()),
        _ => Err(unknown_flag(flag)),
    }
}

impl Said {
    fn package(&mut self, spec: &str) -> Result<(), String> {
        self.packages.push(NpmSpec::parse(spec)?);
        Ok(())
    }

    fn run(
        self,
        program: &str,
        tail: Vec<usize>,
        launcher: NodeLauncher,
    ) -> Result<PackageRun, String> {
        if !self.packages.is_empty() {
            if program.is_empty() || program.contains('/') || program.starts_with('.') {
                return Err(format!(
                    "`{program}` is not the name of a package's program"
                ));
            }
            let (specs, entry) = (self.packages, Entry::Named(program.to_owned()));
            let recipe = Recipe::Npm { specs, launcher };
            // A program that no package has may still be on the PATH; then it is not found here.
            return Ok(PackageRun {
                recipe,
                entry,
                tail,
                prefers: None,
            });
        }
        let spec = NpmSpec::parse(program)?;
        // npm looks for a program of exactly that name among those of the host first.
        let prefers = spec.is_bare().then(|| spec.name().to_owned());
        Ok(PackageRun {
            recipe: Recipe::Npm {
                specs: vec![spec],
                launcher,
            },
            entry: Entry::OfPackage,
            tail,
            prefers,
        })
    }
}
