//! Reads `command`, `args` and `env` of a server: what is run, in templates.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::downloads::{LAUNCHERS, is_registry_variable};
use super::homes::home;
use super::model::Arg;
use super::names::is_variable;
use super::reader::Reader;
use super::shown::shown;
use super::template::{Reference, Template, reference};

pub(super) fn template(reader: &mut Reader<'_, '_>, key: &str, text: &str) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(error) => {
            let name = reader.name(key);
            reader.wrong(key, format!("`{name}`: {error}"));
            None
        }
    }
}

fn template_at(
    reader: &mut Reader<'_, '_>,
    name: &str,
    item: &Spanned<DeValue<'_>>,
) -> Option<Template> {
    let message = match item.get_ref().as_str().map(Template::parse) {
        Some(Ok(template)) => return Some(template),
        Some(Err(error)) => format!("`{name}`: {error}"),
        None => format!("`{name}` must hold texts, not {}", shown(item.get_ref())),
    };
    reader.notes.mistakes.push((item.span(), message));
    None
}

/// Why a command is not the name or path of one program.
pub(super) fn not_a_program(command: &str) -> Option<String> {
    if let Some(home) = home(command) {
        return Some(format!(
            "`command` begins with `{home}`, which a shell would read as a home folder, and there is none here: write the whole path, such as \"/home/me/bin/server\", or the program's name where its folder is on the PATH"
        ));
    }
    let rest = arguments_in(command)?;
    let program = command.trim().split(char::is_whitespace).next()?;
    let mut words = rest.split_whitespace();
    let behind_env = match program.rsplit('/').next() {
        // Of `env -S x` and `env A=b x` this is not so.
        Some("env") => words.next().filter(|word| !word.contains(['-', '='])),
        _ => None,
    };
    let Some(behind_env) = behind_env else {
        return Some(format!(
            "`command` is one program; put `{rest}` into `args`"
        ));
    };
    let args: Vec<_> = words.map(|word| format!("{word:?}")).collect();
    let args = match args.is_empty() {
        true => String::new(),
        false => format!(" and args = [{}]", args.join(", ")),
    };
    Some(format!(
        "`command` is one program, which is looked for on the PATH as `env` does: write command = {behind_env:?}{args}"
    ))
}

/// What of a command is no part of a program's name. A path may hold spaces; a name that is looked for on the
/// PATH, or words that begin with a dash, are a command line.
pub(super) fn arguments_in(command: &str) -> Option<&str> {
    let (program, rest) = command.trim().split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let is_env = program.rsplit('/').next() == Some("env");
    let is_line = is_env
        || !program.contains('/')
        || rest.split_whitespace().any(|word| word.starts_with('-'));
    is_line.then_some(rest)
}

/// Programs beside launchers that take a flag and its value as two arguments, and what else may stand before those.
const INTERPRETERS: [&str; 3] = ["node", "python", "python3"];

const SUBCOMMANDS: [&str; 5] = ["exec", "x", "dlx", "tool", "run"];

/// Looks through the arguments of a command, in their order, for one that is several: of a launcher's own (`-y pkg`).
pub(super) struct LauncherArguments {
    /// The arguments so far are the launcher's own.
    is_launchers: bool,
}

impl LauncherArguments {
    pub(super) fn of(command: &str) -> Self {
        let program = command.rsplit('/').next().unwrap_or_default();
        Self {
            is_launchers: LAUNCHERS.contains(&program) || INTERPRETERS.contains(&program),
        }
    }

    /// The words of the next argument, as a list in TOML, where it is several.
    pub(super) fn words_in(&mut self, text: &str) -> Option<String> {
        self.is_launchers &= text.starts_with('-') || SUBCOMMANDS.contains(&text);
        let words = several(text).filter(|_| self.is_launchers)?;
        let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
        Some(format!("[{}]", words.join(", ")))
    }
}

/// The words of an argument that is several, of a launcher's own: `-y pkg`.
fn several(text: &str) -> Option<Vec<&str>> {
    let words: Vec<_> = text.split_whitespace().collect();
    let flag = words.first().filter(|_| words.len() > 1)?;
    let is_flag = flag.starts_with('-') && !flag.contains(['=', ':']);
    is_flag.then_some(words)
}

pub(super) fn args(reader: &mut Reader<'_, '_>, command: &str) -> Vec<Arg> {
    let text = json!({ "type": "string" });
    let when = json!({
        "type": "object",
        "required": ["when", "args"],
        "properties": { "when": text, "args": { "type": "array", "items": text } },
        "additionalProperties": false,
    });
    let schema = json!({ "type": "array", "items": { "anyOf": [text, when] } });
    let doc = "The arguments of the command: templates, or { when = \"config.k\", args = […] } for arguments that are there only if k is set. A list value that is a whole argument becomes several. A launcher's flags that name a registry (`--registry`, `--index-url`) are the same for every tenant: no templates.";
    let name = reader.name("args");
    let Some(value) = reader.raw("args", schema, doc) else {
        return vec![];
    };
    let Some(items) = value.get_ref().as_array() else {
        reader.wrong(
            "args",
            format!("`{name}` must be a list, not {}", shown(value.get_ref())),
        );
        return vec![];
    };
    let mut args = Vec::new();
    let mut launchers = LauncherArguments::of(command);
    for (at, item) in items.iter().enumerate() {
        let text = item.get_ref().as_str().unwrap_or_default();
        if let Some(words) = launchers.words_in(text) {
            let message = format!("`args[{at}]` holds a space; did you mean {words}?");
            reader.notes.mistakes.push((item.span(), message));
        }
        let Some(table) = item.get_ref().as_table() else {
            args.extend(template_at(reader, &name, item).map(Arg::Always));
            continue;
        };
        let mut inner = Reader::new(reader.notes, Some(table), item.span(), name.as_str());
        let key = inner.text("when", None, "").unwrap_or_default();
        let parsed = match reference(&key) {
            Some(Reference::Config(key)) => Some(key),
            _ => {
                inner.wrong("when", format!("`when` must name a value of the config such as \"config.repo\", not \"{key}\""));
                None
            }
        };
        let texts = inner
            .raw("args", Value::Null, "")
            .and_then(|value| value.get_ref().as_array());
        let mut templates = vec![];
        for text in texts.into_iter().flat_map(|texts| texts.iter()) {
            templates.extend(template_at(&mut inner, &name, text));
        }
        if texts.is_none() {
            inner.wrong("args", "`args` beside `when` must be a list of texts");
        }
        inner.finish();
        args.extend(parsed.map(|key| Arg::When {
            key,
            args: templates,
        }));
    }
    args
}

pub(super) fn env(reader: &mut Reader<'_, '_>) -> BTreeMap<String, Template> {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let doc = "The environment of workers, beside PATH, HOME, LANG, TMPDIR and `pool.pass_env`; values are templates.";
    let name = reader.name("env");
    let Some(value) = reader.raw("env", schema, doc) else {
        return BTreeMap::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        reader.wrong(
            "env",
            format!("`{name}` must be a table, not {}", shown(value.get_ref())),
        );
        return BTreeMap::new();
    };
    let mut env = BTreeMap::new();
    for (variable, value) in table {
        if !is_variable(variable.get_ref()) {
            let message = format!(
                "\"{}\" cannot be the name of a variable",
                variable.get_ref()
            );
            reader.notes.mistakes.push((variable.span(), message));
        }
        let name = format!("{name}.{}", variable.get_ref());
        if let Some(template) = template_at(reader, &name, value) {
            if is_registry_variable(variable.get_ref()) && template.as_literal().is_none() {
                let message = format!(
                    "`{name}` says which registry packages are installed from, for every tenant alike: it must be written out, without `${{…}}`"
                );
                reader.notes.mistakes.push((value.span(), message));
            }
            env.insert(variable.get_ref().to_string(), template);
        }
    }
    env
}
