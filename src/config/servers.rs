//! Reads `[servers.NAME]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::bind::Bind;
use super::command::{args, env, not_a_program, template};
use super::downloads::{Downloader, downloaders};
use super::isolation::{sandbox, strict_paths};
use super::model::{Arg, Interactive, LaunchMode, Pool, Prime, Server, Share};
use super::names::bad_name;
use super::network::network;
use super::reader::Reader;
use super::server_limits::limits;
use super::server_schema::{client_config, schema};
use super::template::Template;
use super::units::secs;
use super::{bind, oauth, references, tools};
use crate::ids::{ServerName, is_valid_name};

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

/// Reads one server. Its keys are documented in the order in which they are read here.
fn server(reader: &mut Reader<'_, '_>, pool: &Pool, base_dir: &Path) -> Server {
    let command = command(reader);
    let callers = Callers::read(reader);
    let process = Process::read(reader, &command);
    let sharing = Sharing::read(reader);
    let requests = Requests::read(reader);
    let lifetime = Lifetime::read(reader, pool);
    let sandbox = sandbox(reader);
    let (readable, writable) = strict_paths(reader, sandbox, base_dir);
    let network = network(reader, sandbox);
    let starts_on_connect = starts_on_connect(reader);
    let min_idle = reader.count(
        "min_idle",
        0,
        0,
        "Spare workers kept ready, of a server whose launch is the same for every tenant: `args`, `env`, `cwd` and `roots` refer to nothing. HOME and TMPDIR are then each process's own, and go with it.",
    );
    let interactive = interactive(reader);
    let is_aggregated = reader.boolean(
        "aggregate",
        true,
        "The server is among those that `/mcp` offers as one.",
    );
    let package = Package::read(reader);
    let limits = reader.table("limits", limits);
    let tools = reader.table("tools", tools::read);
    let is_upstream = reader.has("oauth");
    let oauth = reader.table("oauth", |reader| oauth::read(reader, base_dir, is_upstream));
    let server = Server {
        command,
        args: process.args,
        env: process.env,
        cwd: process.cwd,
        is_aggregated,
        roots: process.roots,
        share: sharing.share,
        stateful: sharing.stateful,
        max_in_flight: sharing.max_in_flight,
        max_workers_per_key: sharing.max_workers_per_key,
        one_at_a_time: sharing.one_at_a_time,
        max_workers: sharing.max_workers,
        request_timeout: requests.timeout,
        max_request_time: requests.max_time,
        start_timeout: requests.start_timeout,
        max_message: requests.max_message,
        idle_timeout: lifetime.idle_timeout,
        max_lifetime: lifetime.max_lifetime,
        max_requests: lifetime.max_requests,
        sandbox,
        readable,
        writable,
        network,
        interactive,
        starts_on_connect,
        min_idle,
        launch: package.launch,
        prime: package.prime,
        pin: package.pin,
        writable_dependencies: package.writable_dependencies,
        limits,
        tools,
        schema: callers.schema,
        client_config: callers.client_config,
        client_secrets: callers.client_secrets,
        bind: callers.bind,
        identity: callers.identity,
        oauth: oauth.map(Arc::new),
    };
    references::check(reader, &server);
    check_registries(reader, &server);
    server
}

fn command(reader: &mut Reader<'_, '_>) -> String {
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
    command
}

/// What tenants configure, callers may set, and a server is told of them.
struct Callers {
    schema: Option<Arc<Value>>,
    client_config: Vec<String>,
    client_secrets: Vec<String>,
    bind: Bind,
    identity: Vec<String>,
}

impl Callers {
    fn read(reader: &mut Reader<'_, '_>) -> Self {
        let schema = schema(reader);
        let client_config = client_config(reader, schema.as_deref());
        let client_secrets = reader.texts(
            "client_secrets",
            &[],
            "Secrets that a caller may bring itself instead of the tenant's, by a handle from `POST /v1/config`.",
        );
        let bind = bind::bind(reader, schema.as_deref());
        let identity = bind::identity(reader);
        Self {
            schema,
            client_config,
            client_secrets,
            bind,
            identity,
        }
    }
}

/// What a process of the server is started with, beside its program.
struct Process {
    args: Vec<Arg>,
    env: BTreeMap<String, Template>,
    cwd: Option<Template>,
    roots: Vec<Template>,
}

impl Process {
    fn read(reader: &mut Reader<'_, '_>, command: &str) -> Self {
        let args = args(reader, command);
        let env = env(reader);
        let cwd = reader.text("cwd", None, "Where it runs, from pool.toml's folder; a template. Without it: a folder private to tenant and server.");
        let cwd = cwd.and_then(|text| template(reader, "cwd", &text));
        let doc = "Folders that the server is told are its roots, from pool.toml's folder, or file:// URIs; templates. With them no client is asked for its own.";
        let roots = reader.texts("roots", &[], doc);
        let roots = roots
            .iter()
            .filter_map(|text| template(reader, "roots", text))
            .collect();
        Self {
            args,
            env,
            cwd,
            roots,
        }
    }
}

/// Which sessions share a worker, and how many there may be.
struct Sharing {
    share: Share,
    stateful: bool,
    max_in_flight: usize,
    max_workers_per_key: usize,
    one_at_a_time: Option<bool>,
    max_workers: usize,
}

impl Sharing {
    fn read(reader: &mut Reader<'_, '_>) -> Self {
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
        Self {
            share,
            stateful,
            max_in_flight,
            max_workers_per_key,
            one_at_a_time,
            max_workers,
        }
    }
}

/// How long requests and starts may take, and how large answers may be.
struct Requests {
    timeout: Duration,
    max_time: Duration,
    start_timeout: Duration,
    max_message: usize,
}

impl Requests {
    fn read(reader: &mut Reader<'_, '_>) -> Self {
        let timeout = reader.duration("request_timeout", secs(300), "How long a request may take without progress before it fails with 504 and the server is told that it is cancelled.");
        let max_time = reader.duration("max_request_time", secs(3600), "How long a request may take in all, from when its process has it, however much progress it reports. Then it fails with 504 and the server is told that it is cancelled.");
        let start_timeout = reader.duration("start_timeout", secs(60), "How long the server may take to answer `initialize`. Installing its package does not count, unless it is started as written.");
        let max_message = reader.size(
            "max_message",
            Some(32 << 20),
            "Largest message from the server. A larger one is discarded and its request fails.",
        );
        let max_message = max_message.unwrap_or(32 << 20).min(LARGEST_MESSAGE);
        Self {
            timeout,
            max_time,
            start_timeout,
            max_message: usize::try_from(max_message).unwrap_or(usize::MAX),
        }
    }
}

/// When a worker is recycled: as the pool says, where the server says nothing.
struct Lifetime {
    idle_timeout: Duration,
    max_lifetime: Duration,
    max_requests: u64,
}

impl Lifetime {
    fn read(reader: &mut Reader<'_, '_>, pool: &Pool) -> Self {
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
        Self {
            idle_timeout: idle_timeout.unwrap_or(pool.idle_timeout),
            max_lifetime: max_lifetime.unwrap_or(pool.max_lifetime),
            max_requests: max_requests.unwrap_or(pool.max_requests),
        }
    }
}

fn starts_on_connect(reader: &mut Reader<'_, '_>) -> bool {
    let starts = [("on-call", false), ("on-connect", true)];
    let doc = "When the first worker is started, where the answers to `initialize` and lists are remembered: when a call needs it, or already when a client connects.";
    reader
        .word("start", "on-call", &starts, doc)
        .unwrap_or(false)
}

fn interactive(reader: &mut Reader<'_, '_>) -> Interactive {
    let words = [
        ("exclusive", Interactive::Exclusive),
        ("always", Interactive::Always),
        ("never", Interactive::Never),
    ];
    let doc = "How a worker's requests to clients (sampling, elicitation, roots) are kept apart. \"exclusive\": a worker whose clients accept such requests serves one session, or one request of the stateless revision, at a time. \"always\": the same for every request of the stateless revision, also of clients that accept none, who are then told what is missing. \"never\": the server asks nothing, and its workers serve many requests of the stateless revision at once.";
    reader
        .word("interactive", "exclusive", &words, doc)
        .unwrap_or(Interactive::Exclusive)
}

/// How the server's package is installed and run.
struct Package {
    launch: LaunchMode,
    prime: Prime,
    pin: bool,
    writable_dependencies: Vec<String>,
}

impl Package {
    fn read(reader: &mut Reader<'_, '_>) -> Self {
        let launch = launch(reader);
        let prime = prime(reader);
        let pin = reader.boolean("pin", false, "What an npx or uvx line was resolved to is written to pool.lock, beside pool.toml, and used from then on, on every host that has that file: no newer version is looked for.");
        let writable_dependencies = reader.texts("writable_dependencies", &[], "Dependencies of its package that write beside their own code, by their names in the registry; \"*\" for all. Each tenant's server gets copies of them, like those of the package itself, which take that much more of the disk; without, such a write fails with EROFS, since a dependency is one for all tenants.");
        Self {
            launch,
            prime,
            pin,
            writable_dependencies,
        }
    }
}

fn launch(reader: &mut Reader<'_, '_>) -> LaunchMode {
    let words = [("auto", LaunchMode::Auto), ("as-is", LaunchMode::AsIs)];
    let doc = "How the command is started. \"auto\": a package that npx, npm exec, pnpm dlx, bunx, uvx, uv tool run or pipx run would run is installed once, in the package cache, and its program started directly; what is not understood or cannot be installed is run as written, with a warning. What a server writes beside its code is its tenant's, and taken over by the next version. \"as-is\": always as written, from an install of each tenant's own: the first start of each tenant downloads it, and what becomes of files beside the code when the version changes is up to the launcher.";
    reader
        .word("launch", "auto", &words, doc)
        .unwrap_or(LaunchMode::Auto)
}

fn prime(reader: &mut Reader<'_, '_>) -> Prime {
    let words = [("auto", Prime::Auto), ("off", Prime::Off)];
    let doc = "Whether a worker begins with the libraries of its Python or node package imported already. \"auto\": where stdiopool is root, `launch` and `sandbox` are \"auto\" and \"standard\", `network` is \"on\", and the imports read nothing that a launch decides; from the second start of a version on. Workers of a Python package are forked from one process, and share their address layout and hash seed; one of a node package is a process that has waited for it, and one waits as long as the version is used. \"off\": each worker imports for itself.";
    reader
        .word("prime", "auto", &words, doc)
        .unwrap_or(Prime::Auto)
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
