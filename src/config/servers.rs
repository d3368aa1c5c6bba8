//! Reads `[servers.NAME]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::downloads::{Downloader, downloaders, is_registry_variable};
use super::homes::home;
use super::model::{Arg, Interactive, Launch, Limits, Pool, Server, Share};
use super::read::{is_variable, not_enforced, secs};
use super::reader::Reader;
use super::shown::{shown, to_json};
use super::template::{Reference, Template, reference};
use super::{bind, oauth, references, tools};
use crate::ids::{MAX_NAME_LEN, ServerName, is_valid_name};

/// Largest message a server may be allowed: beyond it no client could take the answer.
const LARGEST_MESSAGE: u64 = 1 << 30;

pub(super) fn servers(
    root: &mut Reader<'_, '_>,
    pool: &Pool,
    base_dir: &Path,
) -> BTreeMap<ServerName, Server> {
    let read = root.entries("servers", |name, span, reader| {
        if name != "*" && !is_valid_name(name) {
            reader.notes.mistakes.push((span, bad_name("server", name)));
        }
        (ServerName::new(name), server(reader, pool, base_dir))
    });
    read.into_iter().collect()
}

pub(super) fn bad_name(what: &str, name: &str) -> String {
    format!(
        "\"{name}\" cannot be the name of a {what}: 1 to {MAX_NAME_LEN} letters, digits, `.`, `_` or `-`, starting with a letter or digit"
    )
}

fn server(reader: &mut Reader<'_, '_>, pool: &Pool, base_dir: &Path) -> Server {
    let command = reader
        .text(
            "command",
            None,
            "What to run: a program on PATH, or a path from pool.toml's folder. `stdiopool` is this very program.",
        )
        .unwrap_or_default();
    // What is no text has been told.
    let is_text = reader.text_or_nothing("command");
    if is_text && (command.is_empty() || command.contains('\0')) {
        let name = reader.name("command");
        reader.wrong(
            "command",
            format!("`{name}` is missing: the program to run, such as \"npx\""),
        );
    }
    if let Some(why) = not_a_program(&command) {
        reader.wrong("command", why);
    }
    let schema = schema(reader);
    let client_config = client_config(reader, schema.as_deref());
    let client_secrets = reader.texts(
        "client_secrets",
        &[],
        "Secrets that a caller may bring itself instead of the tenant's, by a handle from `POST /v1/config`.",
    );
    let bind = bind::bind(reader, schema.as_deref());
    let identity = bind::identity(reader);
    let args = args(reader, &command);
    let env = env(reader);
    let cwd = reader.text("cwd", None, "Where it runs, from pool.toml's folder; a template. Without it: a folder private to tenant and server.");
    let cwd = cwd.and_then(|text| template(reader, "cwd", &text));
    let doc = "Folders that the server is told are its roots, from pool.toml's folder, or file:// URIs; templates. With them no client is asked for its own.";
    let roots = reader.texts("roots", &[], doc);
    let roots = roots
        .iter()
        .filter_map(|text| template(reader, "roots", text));
    let roots: Vec<_> = roots.collect();
    let shares = [
        ("tenant", Share::Tenant),
        ("session", Share::Session),
        ("request", Share::Request),
    ];
    let share = reader.word("share", "tenant", &shares, "Who shares a worker: all sessions of a tenant with the same config; one session; one request.");
    let share = share.unwrap_or(Share::Tenant);
    let stateful = reader.boolean("stateful", false, "The server keeps state in its process: losing the process ends its sessions with 404 instead of moving them silently.");
    if stateful && share == Share::Request {
        reader.wrong("stateful", "a server with `share = \"request\"` has a process for each request, so it cannot be `stateful`");
    }
    let max_in_flight = reader.count(
        "max_in_flight",
        32,
        1,
        "Requests at once per worker; further ones wait. Of a worker that sessions share, one session has three quarters at the most, rounded down, and at least one: 24 of 32, 3 of 4, 1 of 2.",
    );
    let max_workers_per_key = reader.count(
        "max_workers_per_key",
        1,
        1,
        "Workers for the same tenant and config, when all are at max_in_flight. Each counts until nothing of it is left, also one with an earlier configuration: the next is started after it. See `pool.drain_timeout`. Clients that declare something else of sampling, elicitation or roots have workers of their own, and so have requests of the stateless revision that can be asked something; with `1` written here they have not: one process at a time, which is started anew for them when the last is idle or has had `pool.drain_timeout`. Where nothing is written, that is found out for servers whose processes do not start beside each other.",
    );
    let one_at_a_time = (max_workers_per_key == 1).then(|| reader.has("max_workers_per_key"));
    let max_workers = reader.count(
        "max_workers",
        0,
        0,
        "Workers of this server, of all tenants; 0: only the pool's limit.",
    );
    let request_timeout = reader.duration("request_timeout", secs(300), "How long a request may take without progress before it fails with 504 and the server is told that it is cancelled.");
    let max_request_time = reader.duration("max_request_time", secs(3600), "How long a request may take in all, from when its process has it, however much progress it reports. Then it fails with 504 and the server is told that it is cancelled.");
    let start_timeout = reader.duration("start_timeout", secs(60), "How long the server may take to answer `initialize`. Installing its package does not count, unless it is started as written.");
    let max_message = reader.size(
        "max_message",
        Some(32 << 20),
        "Largest message from the server. A larger one is discarded and its request fails.",
    );
    let max_message = max_message.unwrap_or(32 << 20).min(LARGEST_MESSAGE);
    let of_pool = |duration| Some(format!("pool.{duration}"));
    let idle_timeout = reader.duration_if_given(
        "idle_timeout",
        of_pool("idle_timeout"),
        "Instead of the pool's.",
    );
    let max_lifetime = reader.duration_if_given(
        "max_lifetime",
        of_pool("max_lifetime"),
        "Instead of the pool's.",
    );
    let max_requests = reader.number(
        "max_requests",
        None,
        0..=u64::from(u32::MAX),
        "Instead of the pool's.",
    );
    let may_gain_privileges = sandbox(reader);
    let starts = [("on-call", false), ("on-connect", true)];
    let doc = "When the first worker is started, where the answers to `initialize` and lists are remembered: when a call needs it, or already when a client connects.";
    let starts_on_connect = reader
        .word("start", "on-call", &starts, doc)
        .unwrap_or(false);
    let min_idle = reader.count(
        "min_idle",
        0,
        0,
        "Spare workers kept ready, of a server whose launch is the same for every tenant: `args`, `env`, `cwd` and `roots` refer to nothing. HOME and TMPDIR are then each process's own, and go with it.",
    );
    let words = [
        ("exclusive", Interactive::Exclusive),
        ("always", Interactive::Always),
        ("never", Interactive::Never),
    ];
    let doc = "How a worker's requests to clients (sampling, elicitation, roots) are kept apart. \"exclusive\": a worker whose clients accept such requests serves one session, or one request of the stateless revision, at a time. \"always\": the same for every request of the stateless revision, also of clients that accept none, who are then told what is missing. \"never\": the server asks nothing, and its workers serve many requests of the stateless revision at once.";
    let interactive = reader
        .word("interactive", "exclusive", &words, doc)
        .unwrap_or(Interactive::Exclusive);
    let is_aggregated = reader.boolean(
        "aggregate",
        true,
        "It is among the servers that `/mcp` offers as one.",
    );
    let launch = launch(reader);
    let pin = reader.boolean("pin", false, "What an npx or uvx line was resolved to is written to pool.lock, beside pool.toml, and used from then on, on every host that has that file: no newer version is looked for.");
    let writable_dependencies = reader.texts("writable_dependencies", &[], "Dependencies of its package that write beside their own code, by their names in the registry; \"*\" for all. Each tenant's server gets copies of them, like those of the package itself, which take that much more of the disk; without, such a write fails with EROFS, since a dependency is one for all tenants.");
    let limits = reader.table("limits", limits);
    let tools = reader.table("tools", tools::read);
    let is_upstream = reader.has("oauth");
    let oauth = reader.table("oauth", |reader| oauth::read(reader, base_dir, is_upstream));
    let server = Server {
        command,
        args,
        env,
        cwd,
        is_aggregated,
        roots,
        share,
        stateful,
        max_in_flight,
        max_workers_per_key,
        one_at_a_time,
        max_workers,
        request_timeout,
        max_request_time,
        start_timeout,
        max_message: usize::try_from(max_message).unwrap_or(usize::MAX),
        idle_timeout: idle_timeout.unwrap_or(pool.idle_timeout),
        max_lifetime: max_lifetime.unwrap_or(pool.max_lifetime),
        max_requests: max_requests.unwrap_or(pool.max_requests),
        may_gain_privileges,
        interactive,
        starts_on_connect,
        min_idle,
        launch,
        pin,
        writable_dependencies,
        limits,
        tools,
        schema,
        client_config,
        client_secrets,
        bind,
        identity,
        oauth: oauth.map(Arc::new),
    };
    references::check(reader, &server);
    check_registries(reader, &server);
    server
}

/// Where packages come from is the same for every tenant: what one tenant's values name would be another's to run.
fn check_registries(reader: &mut Reader<'_, '_>, server: &Server) {
    let found = downloaders(&server.command, &server.words());
    let Some(open) = found.iter().find_map(Downloader::open_registry) else {
        return;
    };
    let name = reader.name("args");
    let message = format!(
        "`{name}`: `{open}` says which registry packages are installed from, for every tenant alike: it must be written out, without `${{…}}` and `when`"
    );
    reader.wrong("args", message);
}

fn template(reader: &mut Reader<'_, '_>, key: &str, text: &str) -> Option<Template> {
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
fn not_a_program(command: &str) -> Option<String> {
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
fn arguments_in(command: &str) -> Option<&str> {
    let (program, rest) = command.trim().split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let is_env = program.rsplit('/').next() == Some("env");
    let is_line = is_env
        || !program.contains('/')
        || rest.split_whitespace().any(|word| word.starts_with('-'));
    is_line.then_some(rest)
}

/// Programs that take a flag and its value as two arguments, and what else may stand before those.
const LAUNCHERS: [&str; 12] = [
    "npx", "npm", "pnpx", "pnpm", "bunx", "bun", "uvx", "uv", "pipx", "node", "python", "python3",
];
const SUBCOMMANDS: [&str; 5] = ["exec", "x", "dlx", "tool", "run"];

/// The words of an argument that is several, of a launcher's own: `-y pkg`.
fn several(text: &str) -> Option<Vec<&str>> {
    let words: Vec<_> = text.split_whitespace().collect();
    let flag = words.first().filter(|_| words.len() > 1)?;
    let is_flag = flag.starts_with('-') && !flag.contains(['=', ':']);
    is_flag.then_some(words)
}

fn args(reader: &mut Reader<'_, '_>, command: &str) -> Vec<Arg> {
    let text = json!({ "type": "string" });
    let when = json!({
        "type": "object",
        "required": ["when", "args"],
        "properties": { "when": text, "args": { "type": "array", "items": text } },
        "additionalProperties": false,
    });
    let schema = json!({ "type": "array", "items": { "anyOf": [text, when] } });
    let doc = "Its arguments: templates, or { when = \"config.k\", args = […] } for arguments that are there only if k is set. A list value that is a whole argument becomes several. A launcher's flags that name a registry (`--registry`, `--index-url`) are the same for every tenant: no templates.";
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
    let program = command.rsplit('/').next().unwrap_or_default();
    let mut is_launchers = LAUNCHERS.contains(&program);
    for (at, item) in items.iter().enumerate() {
        let text = item.get_ref().as_str().unwrap_or_default();
        is_launchers &= text.starts_with('-') || SUBCOMMANDS.contains(&text);
        if let Some(words) = several(text).filter(|_| is_launchers) {
            let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            let message = format!(
                "`args[{at}]` holds a space; did you mean [{}]?",
                words.join(", ")
            );
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

fn env(reader: &mut Reader<'_, '_>) -> BTreeMap<String, Template> {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let doc = "Its environment, beside PATH, HOME, LANG, TMPDIR and `pool.pass_env`; values are templates.";
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

fn schema(reader: &mut Reader<'_, '_>) -> Option<Arc<Value>> {
    let doc = "A JSON Schema of an object: what tenants may set for this server. `default` of a property holds where a tenant sets nothing.";
    let name = reader.name("config");
    let value = reader.raw("config", json!({ "type": "object" }), doc)?;
    let schema = to_json(value.get_ref());
    if let Err(error) = jsonschema::meta::validate(&schema) {
        let path = error.instance_path().to_string();
        if let Some(given) = wrong_type(&schema, &path) {
            let of = path.trim_start_matches('/').replace('/', ".");
            let message = format!(
                "`{name}.{of}`: `type` must be string, number, integer, boolean, array, object or null, not {given}"
            );
            reader.wrong("config", message);
            return None;
        }
        reader.wrong(
            "config",
            format!(
                "`{name}` is not a valid JSON Schema: {error} at \"{}\"",
                error.instance_path()
            ),
        );
        return None;
    }
    // What cannot be compiled is refused when it is put in force.
    let patterns = jsonschema::PatternOptions::fancy_regex();
    let compiled = jsonschema::options()
        .with_pattern_options(patterns)
        .build(&schema);
    if let Err(error) = compiled {
        let at = error.instance_path().to_string();
        let message = format!("`{name}` cannot be used as a JSON Schema: {error} at \"{at}\"");
        reader.wrong("config", message);
        return None;
    }
    match schema.get("type") {
        None => {}
        Some(object) if object == "object" => {}
        Some(other) => {
            reader.wrong(
                "config",
                format!("`{name}` must describe an object, not {other}"),
            );
            return None;
        }
    }
    Some(Arc::new(schema))
}

/// What stands there in place of a type, or in a list of types, if that is what is wrong.
fn wrong_type(schema: &Value, path: &str) -> Option<Value> {
    let types = [
        "string", "number", "integer", "boolean", "array", "object", "null",
    ];
    let is_type = |value: &Value| value.as_str().is_some_and(|it| types.contains(&it));
    let given = schema.pointer(path).filter(|_| path.ends_with("/type"))?;
    let is_fine = match given {
        Value::Array(all) => !all.is_empty() && all.iter().all(is_type),
        other => is_type(other),
    };
    (!is_fine).then(|| given.clone())
}

/// What callers may set must be described: it is validated and advertised.
fn client_config(reader: &mut Reader<'_, '_>, schema: Option<&Value>) -> Vec<String> {
    let doc = "Keys of the config that a caller may set itself, per session or per request, over what its tenant has set.";
    let keys = reader.texts("client_config", &[], doc);
    let properties = schema.and_then(|schema| schema.get("properties"));
    for key in &keys {
        if properties.is_none_or(|properties| properties.get(key).is_none()) {
            let name = reader.name("client_config");
            let of = reader.name("config.properties");
            reader.wrong(
                "client_config",
                format!("`{name}` lists \"{key}\", which `{of}` does not describe: what callers set is validated"),
            );
        }
    }
    keys
}

fn sandbox(reader: &mut Reader<'_, '_>) -> bool {
    let words = [
        ("standard", Some(false)),
        ("none", Some(true)),
        ("strict", None),
    ];
    let doc = "\"standard\": a session and process group of its own, a clean environment, closed descriptors, no new privileges. \"none\": the same, but it may gain privileges, as sudo does.";
    let word = reader.word("sandbox", "standard", &words, doc);
    if word == Some(None) {
        let name = reader.name("sandbox");
        reader.wrong("sandbox", format!("`{name}` \"strict\" is not available in this version; there are \"none\" and \"standard\""));
    }
    word.flatten().unwrap_or(false)
}

fn launch(reader: &mut Reader<'_, '_>) -> Launch {
    let words = [("auto", Launch::Auto), ("as-is", Launch::AsIs)];
    let doc = "How the command is started. \"auto\": a package that npx, npm exec, pnpm dlx, bunx, uvx, uv tool run or pipx run would run is installed once, in the package cache, and its program started directly; what is not understood or cannot be installed is run as written, with a warning. What a server writes beside its code is its tenant's, and taken over by the next version. \"as-is\": always as written, from an install of each tenant's own: the first start of each tenant downloads it, and what becomes of files beside the code when the version changes is up to the launcher.";
    reader
        .word("launch", "auto", &words, doc)
        .unwrap_or(Launch::Auto)
}

fn limits(reader: &mut Reader<'_, '_>) -> Limits {
    let limits = Limits {
        memory: reader.size("memory", None, "Memory that one worker may hold with all its processes. One that holds more is killed, which its callers are told."),
        pids: reader.number("pids", None, 1..=1_000_000, "Processes of one worker."),
        open_files: reader
            .number(
                "open_files",
                Some(1024),
                16..=1_048_576,
                "Open files of each process.",
            )
            .unwrap_or(1024),
        cpu_seconds: reader
            .number(
                "cpu_seconds",
                Some(0),
                0..=u64::from(u32::MAX),
                "Seconds of CPU time of each process, after which it is killed; 0: no limit.",
            )
            .unwrap_or(0),
    };
    for key in ["pids"] {
        if reader.has(key) {
            let name = reader.name(key);
            reader.warn(key, not_enforced(&name));
        }
    }
    limits
}
