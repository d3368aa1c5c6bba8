//! uvx (`uv tool run`) and pipx run.

use super::flags::{self, Flag};
use super::names::Requirement;
use super::not_understood::NotUnderstood;
use super::recipe::{Entry, PackageRun, PythonLauncher, Recipe};
use super::words::{Words, not_its_value, refused_flag, split};

/// `uvx [flags] TOOL [args]`.
pub(super) fn uvx(mut words: Words<'_>) -> Result<PackageRun, NotUnderstood> {
    let (mut from, mut with, mut python) = (None, Vec::new(), None);
    let mut options = Vec::new();
    let mut is_over = false;
    while let Some(word) = words.next() {
        let (_, word) = word?;
        if is_over || !word.starts_with('-') {
            return tool(word, from, with, python, options, words.rest());
        }
        match split(word) {
            ("--", None) => is_over = true,
            (flag @ "--from", inline) => {
                from = Some(Requirement::parse_of_tool(words.value(flag, inline)?)?);
            }
            (flag @ ("-w" | "--with"), inline) => {
                // Several may be given at once, and an extra may hold a comma of its own.
                let given = words.value(flag, inline)?;
                if given.contains('[') || given.split(',').any(starts_with_operator) {
                    with.push(Requirement::parse(given)?);
                } else {
                    for one in given.split(',') {
                        with.push(Requirement::parse(one)?);
                    }
                }
            }
            (flag @ ("-p" | "--python"), inline) => {
                python = Some(python_name(words.value(flag, inline)?)?);
            }
            (flag, inline) => options.extend(option(flag, inline, &mut words)?),
        }
    }
    Err(NotUnderstood::NothingNamed)
}

/// A flag of uv: what of it is handed on, if anything.
fn option<'a>(
    flag: &str,
    inline: Option<&'a str>,
    words: &mut Words<'a>,
) -> Result<Option<String>, NotUnderstood> {
    match (flags::of_uv(flag), inline) {
        (Some(Flag::Idle), None) => Ok(None),
        (Some(Flag::IdleWith), _) => words.value(flag, inline).map(|_| None),
        (Some(Flag::Choosing), None) => Ok(Some(flag.to_owned())),
        (Some(Flag::ChoosingWith), _) => {
            let value = words.value(flag, inline)?;
            if value.is_empty() || value.starts_with('-') {
                return Err(not_its_value(flag, value));
            }
            // `-i` is pip's short form of it.
            let flag = if flag == "-i" { "--index-url" } else { flag };
            Ok(Some(format!("{flag}={value}")))
        }
        (Some(Flag::Refused(why)), _) => Err(refused_flag(flag, why)),
        (Some(Flag::Idle | Flag::Choosing) | None, _) => {
            Err(NotUnderstood::UnknownFlag(flag.to_owned()))
        }
    }
}

fn tool(
    tool: &str,
    from: Option<Requirement>,
    with: Vec<Requirement>,
    python: Option<String>,
    options: Vec<String>,
    tail: Vec<usize>,
) -> Result<PackageRun, NotUnderstood> {
    let (package, program) = match from {
        Some(from) => (from, tool.to_owned()),
        None => {
            let package = Requirement::parse_of_tool(tool)?;
            let name = package.name().to_owned();
            (package, name)
        }
    };
    runnable(&program)?;
    let mut requirements = vec![package];
    requirements.extend(with);
    Ok(PackageRun {
        recipe: Recipe::PyPi {
            requirements,
            python,
            options,
            launcher: PythonLauncher::Uv,
        },
        entry: Entry::Named(program),
        tail,
        prefers: None,
    })
}

/// `pipx run [flags] APP [args]`.
pub(super) fn pipx_run(mut words: Words<'_>) -> Result<PackageRun, NotUnderstood> {
    let (mut spec, mut python) = (None, None);
    while let Some(word) = words.next() {
        let (_, word) = word?;
        match split(word) {
            (flag @ "--spec", inline) => {
                spec = Some(Requirement::parse(words.value(flag, inline)?)?);
            }
            (flag @ "--python", inline) => {
                python = Some(python_name(words.value(flag, inline)?)?);
            }
            ("-q" | "--quiet" | "-v" | "--verbose", None) => {}
            (flag, _) if flag.starts_with('-') => {
                return Err(NotUnderstood::UnknownFlag(flag.to_owned()));
            }
            _ => {
                let app = Requirement::parse(word)?;
                let program = app.name().to_owned();
                runnable(&program)?;
                return Ok(PackageRun {
                    recipe: Recipe::PyPi {
                        requirements: vec![spec.unwrap_or(app)],
                        python,
                        options: vec![],
                        launcher: PythonLauncher::Pipx,
                    },
                    entry: Entry::Named(program.clone()),
                    tail: words.rest(),
                    prefers: None,
                });
            }
        }
    }
    Err(NotUnderstood::NothingNamed)
}

/// `python` itself is no tool of a package: uvx and pipx have rules of their own for it.
fn runnable(program: &str) -> Result<(), NotUnderstood> {
    let is_interpreter = program.starts_with("python") || program.starts_with("pypy");
    if is_interpreter || program.is_empty() || program.contains('/') || program.starts_with('.') {
        return Err(NotUnderstood::NotAProgram(program.to_owned()));
    }
    Ok(())
}

/// A version, a path or a name of an interpreter; never a flag of what it is passed on to.
fn python_name(text: &str) -> Result<String, NotUnderstood> {
    if text.is_empty() || text.starts_with('-') {
        return Err(NotUnderstood::NotAPython(text.to_owned()));
    }
    Ok(text.to_owned())
}

/// Whether a part of a list between commas goes on with the specifiers of the part before it.
fn starts_with_operator(part: &str) -> bool {
    part.trim_start().starts_with(['<', '>', '=', '!', '~'])
}
