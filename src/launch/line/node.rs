//! npx, npm exec, pnpm dlx and bunx.

use super::flags::{self, Flag};
use super::names::NpmSpec;
use super::not_understood::NotUnderstood;
use super::recipe::{AllowedScripts, Entry, NodeLauncher, PackageRun, Recipe};
use super::words::{Words, not_its_value, refused_flag, split};

/// The options that the flags before the program set.
#[derive(Default)]
struct Options {
    packages: Vec<NpmSpec>,
    scripts: AllowedScripts,
}

/// `npx [flags] [--] PROGRAM [args]`: everything behind the program is the program's.
pub(super) fn npx(mut words: Words<'_>) -> Result<PackageRun, NotUnderstood> {
    let mut options = Options::default();
    let mut is_over = false;
    // A flag whose value npx takes the next word for, though it has none, when it looks for the program.
    let mut before = None;
    while let Some(word) = words.next() {
        let (_, word) = word?;
        if is_over || !word.starts_with('-') {
            if let Some(flag) = before {
                not_taken_for_npms(flag, &words)?;
            }
            return options.run(word, words.rest(), NodeLauncher::Npm);
        }
        before = None;
        match split(word) {
            ("--", None) => is_over = true,
            (flag @ ("-p" | "--package"), inline) => options.package(words.value(flag, inline)?)?,
            (flag, inline) => {
                options.flag(flag, inline, &mut words)?;
                before = flag.starts_with("--no-").then_some(flag);
            }
        }
    }
    Err(NotUnderstood::NothingNamed)
}

/// npx passes over the word behind `--no-…` when it looks for the program, and so over the program itself: what follows up
/// to the next word without a dash is npm's own then.
fn not_taken_for_npms(flag: &str, words: &Words<'_>) -> Result<(), NotUnderstood> {
    match words.args.get(words.at) {
        Some(Some(next)) if next.starts_with('-') => Err(NotUnderstood::TakenForNpms {
            flag: flag.to_owned(),
            next: (*next).to_owned(),
        }),
        _ => Ok(()),
    }
}

/// `npm exec [flags] PROGRAM [flags] [-- args]`: flags are npm's up to `--`, wherever they stand.
pub(super) fn npm_exec(mut words: Words<'_>) -> Result<PackageRun, NotUnderstood> {
    let mut options = Options::default();
    let mut positional = Vec::new();
    while let Some(word) = words.next() {
        let (at, word) = word?;
        match split(word) {
            ("--", None) => {
                positional.extend(words.rest());
                break;
            }
            // Not `-p`: that is `--parseable` here.
            (flag @ "--package", inline) => options.package(words.value(flag, inline)?)?,
            (flag, inline) if word.starts_with('-') => options.flag(flag, inline, &mut words)?,
            _ => positional.push(at),
        }
    }
    let (program, tail) = positional
        .split_first()
        .ok_or(NotUnderstood::NothingNamed)?;
    let program = words.args.get(*program).copied().flatten();
    let program = program.ok_or(NotUnderstood::ProgramKnownAtStart)?;
    options.run(program, tail.to_vec(), NodeLauncher::Npm)
}

/// `pnpm dlx [flags] PROGRAM [args]`.
pub(super) fn pnpm_dlx(mut words: Words<'_>) -> Result<PackageRun, NotUnderstood> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let (_, word) = word?;
        match split(word) {
            (flag @ "--package", inline) => options.package(words.value(flag, inline)?)?,
            ("-s" | "--silent" | "--reporter", Some(_)) | ("-s" | "--silent", None) => {}
            (flag, _) if flag.starts_with('-') => {
                return Err(NotUnderstood::UnknownFlag(flag.to_owned()));
            }
            _ => return options.run(word, words.rest(), NodeLauncher::Pnpm),
        }
    }
    Err(NotUnderstood::NothingNamed)
}

/// `bunx [flags] PROGRAM [args]`.
pub(super) fn bunx(mut words: Words<'_>) -> Result<PackageRun, NotUnderstood> {
    let mut options = Options::default();
    while let Some(word) = words.next() {
        let (_, word) = word?;
        match split(word) {
            (flag @ ("-p" | "--package"), inline) => options.package(words.value(flag, inline)?)?,
            ("--silent" | "--verbose" | "-y", None) => {}
            // `--bun` among them: it puts another runtime in node's place.
            (flag, _) if flag.starts_with('-') => {
                return Err(NotUnderstood::UnknownFlag(flag.to_owned()));
            }
            _ => return options.run(word, words.rest(), NodeLauncher::Bun),
        }
    }
    Err(NotUnderstood::NothingNamed)
}

impl Options {
    fn package(&mut self, spec: &str) -> Result<(), NotUnderstood> {
        self.packages.push(NpmSpec::parse(spec)?);
        Ok(())
    }

    /// Heeds a flag of npm.
    fn flag<'a>(
        &mut self,
        flag: &str,
        inline: Option<&'a str>,
        words: &mut Words<'a>,
    ) -> Result<(), NotUnderstood> {
        let is_plain = matches!(inline, None | Some("true"));
        match flags::of_npm(flag.trim_start_matches('-')) {
            Some(Flag::Idle) if is_plain => Ok(()),
            Some(Flag::IdleWith) => words.value(flag, inline).map(drop),
            Some(Flag::Choosing) if is_plain => {
                self.scripts = AllowedScripts::All;
                Ok(())
            }
            Some(Flag::ChoosingWith) => {
                let names = words.value(flag, inline)?;
                if names.is_empty() || names.starts_with('-') {
                    return Err(not_its_value(flag, names));
                }
                self.scripts = self.scripts.with(names);
                Ok(())
            }
            Some(Flag::Refused(why)) => Err(refused_flag(flag, why)),
            Some(Flag::Idle | Flag::Choosing) | None => {
                Err(NotUnderstood::UnknownFlag(flag.to_owned()))
            }
        }
    }

    fn run(
        self,
        program: &str,
        tail: Vec<usize>,
        launcher: NodeLauncher,
    ) -> Result<PackageRun, NotUnderstood> {
        if !self.packages.is_empty() {
            if program.is_empty() || program.contains('/') || program.starts_with('.') {
                return Err(NotUnderstood::NotAProgram(program.to_owned()));
            }
            let (specs, entry) = (self.packages, Entry::Named(program.to_owned()));
            let scripts = self.scripts;
            let recipe = Recipe::Npm {
                specs,
                scripts,
                launcher,
            };
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
                scripts: self.scripts,
                launcher,
            },
            entry: Entry::OfPackage,
            tail,
            prefers,
        })
    }
}
