//! Reads the tables of pool.toml other than servers and tenants.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::model::{
    Admin, Aggregate, AuthMode, Config, Connections, Http, Packages, Pool, SandboxUsers, State, Tls,
};
use super::names::is_variable;
use super::origins::Origins;
use super::reader::Reader;
use super::units::secs;
use super::{audit, auth, policy, rates, secret_source, servers, tenants, tracing};
use crate::protocol::FailureStatus;

/// Variables that workers get without being told to: without the first three, npx and uvx cannot
/// verify registries behind a proxy that inspects TLS; the last is the host's time zone.
pub(super) const PASSED: [&str; 4] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "TZ"];

/// Reads the whole file.
pub(super) fn config(root: &mut Reader<'_, '_>, base_dir: &Path) -> Config {
    let http = root.table("http", |reader| http(reader, base_dir));
    let admin = root.table("admin", admin);
    let auth = root.table("auth", |reader| auth::auth(reader, base_dir));
    let rates = root.table("limits", rates::defaults);
    let audit = root.table("audit", |reader| audit::audit(reader, base_dir));
    let tracing = root.table("tracing", |reader| tracing::tracing(reader, base_dir));
    let aggregate = root.table("aggregate", aggregate);
    let pool = root.table("pool", pool);
    let state = root.table("state", |reader| state(reader, base_dir));
    let packages = root.table("launch", packages);
    let sandbox = root.table("sandbox", sandbox);
    let servers = servers::servers(root, &pool, base_dir);
    let policy = root.table("policy", policy::read);
    let tenants = tenants::tenants(root, &servers, &rates, base_dir);
    let mut config = Config {
        http,
        admin,
        auth,
        rates,
        audit,
        tracing,
        aggregate,
        pool,
        state,
        packages,
        sandbox,
        servers,
        policy,
        tenants,
        only_server: None,
        profiled: None,
        base_dir: base_dir.to_owned(),
        warnings: Vec::new(),
    };
    rates::fit_memory(root, &mut config);
    open_to_all_pages(root, &config);
    config
}

/// Pages of all origins may be served where they show a token only: elsewhere any page that somebody behind this address
/// opens could call tools.
fn open_to_all_pages(root: &mut Reader<'_, '_>, config: &Config) {
    let mode = match config.auth.mode {
        AuthMode::Token | AuthMode::Jwt(_) => return,
        AuthMode::None => "none",
        AuthMode::Header(_) => "header",
    };
    if config.http.allowed_origins.allows_any()
        && let Some(span) = root.span_within(&["http", "allowed_origins"])
    {
        let why = format!(
            "`http.allowed_origins` must not be \"*\" with `auth.mode = \"{mode}\"`: any page that is open in a browser which reaches the front door could call tools; list the origins of your own pages, or have callers show tokens"
        );
        root.notes.mistakes.push((span, why));
    }
}

/// An address; of IPv4 where it is one that is written as IPv6, so that loopback and every address are seen as such.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        // With its zone, if it has one.
        IpAddr::V6(_) => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

fn listen(reader: &mut Reader<'_, '_>, default: &'static str, doc: &'static str) -> SocketAddr {
    let text = reader.text("listen", Some(default), doc);
    let parsed: Result<SocketAddr, _> = text.as_deref().unwrap_or(default).parse();
    parsed.map(canonical).unwrap_or_else(|_| {
        let name = reader.name("listen");
        let text = text.unwrap_or_default();
        let message =
            format!("`{name}` must be an address and port such as \"{default}\", not \"{text}\"");
        reader.wrong("listen", message);
        SocketAddr::from(([127, 0, 0, 1], 0))
    })
}

fn http(reader: &mut Reader<'_, '_>, base_dir: &Path) -> Http {
    let listen = listen(
        reader,
        "127.0.0.1:8080",
        "Address and port of the front door. Port 0: one that the system chooses.",
    );
    let public_url = reader.text("public_url", None, "The URL under which clients reach the front door through a proxy; its host is accepted beside loopback names.");
    if let Some(url) = &public_url
        && url
            .parse::<http::Uri>()
            .map_or(true, |uri| uri.host().is_none())
    {
        reader.wrong(
            "public_url",
            format!(
                "`http.public_url` must be a URL such as \"https://mcp.example.com\", not \"{url}\""
            ),
        );
    }
    let words = [("auto", FailureStatus::Auto), ("http", FailureStatus::Http)];
    let doc = "How a request that fails is answered whose message, session and credentials are in order: the pool is full, a process did not start, a limit is reached. \"auto\": with status 200 and a JSON-RPC error, which every client shows its user (docs/clients.md); \"http\": with 429, 502, 503 or 504 too, for balancers that look at it; some clients end their session then, and what takes long is answered when it is there only.";
    let failure_status = reader
        .word("failure_status", "auto", &words, doc)
        .unwrap_or_default();
    let listed = reader.texts("allowed_origins", &[], "Origins of pages in browsers that may use the front door: scheme, host and, where it is not the usual one, port, such as \"https://app.example.com\". A request with any other Origin is refused with 403. \"*\": pages of all origins, where callers show tokens (`auth.mode` \"token\" or \"jwt\"), which a page has only if it was given one.");
    let mut allowed_origins = Origins::default();
    for origin in &listed {
        if let Err(why) = allowed_origins.add(origin) {
            reader.wrong("allowed_origins", format!("`http.allowed_origins`: {why}"));
        }
    }
    let max_body = reader.size(
        "max_body",
        Some(8 << 20),
        "Largest request body. Nothing of a larger one is kept: its request is refused, with 413 where its id was not seen in what passes by (64 MiB, 5 s).",
    );
    Http {
        listen,
        public_url,
        failure_status,
        allowed_origins,
        max_body: max_body.unwrap_or(8 << 20),
        connections: connections(reader),
        memory: rates::memory_of_all(reader),
        tls: reader.table("tls", |reader| tls(reader, base_dir)),
    }
}

fn connections(reader: &mut Reader<'_, '_>) -> Connections {
    let all = reader.count("connections", 16_384, 1, "Connections of clients at once. Fewer where the limit on open files does not reach for them and for the workers. When all are in use, those that no caller with valid credentials has used are closed first, then idle ones; the rest waits.");
    let per_peer = reader.count("connections_per_peer", 4096, 1, "Connections of one address (of IPv6: of one /64 network). One more closes an idle one of it that shows no credentials, or is refused.");
    let per_tenant = reader.count(
        "connections_per_tenant",
        8192,
        1,
        "Connections that callers of one tenant use. A request over one more is refused with 429.",
    );
    let proxies = reader.texts("proxies", &[], "Addresses or networks of proxies in front, whose connections are many clients': the two limits above do not hold for them.");
    Connections {
        all,
        per_peer,
        per_tenant,
        proxies: auth::networks(reader, "proxies", &proxies),
        idle_timeout: reader.duration("idle_timeout", secs(80), "How long a connection may be without a request before it is closed; clients of HTTP/1.1 are told a little less in `Keep-Alive`. More than the 60 or 75 seconds for which proxies commonly keep connections, so that none is closed while a request is on its way. The head of a request may take this long too, and 30s at the most."),
        write_timeout: reader.duration("write_timeout", secs(30), "How long a client may take nothing of what is written to it before its connection is closed, or its stream of HTTP/2 is."),
    }
}

fn tls(reader: &mut Reader<'_, '_>, base_dir: &Path) -> Option<Tls> {
    let cert = reader.text("cert", None, "A file with the front door's certificate and those that lead to its root, PEM, from pool.toml's folder. With it, the front door speaks HTTPS only. Read again by a reload.");
    let key = reader.text(
        "key",
        None,
        "A file with the certificate's private key, PEM.",
    );
    let client_ca = reader.text("client_ca", None, "A file with the roots of clients' certificates, PEM. With it, who has no certificate of theirs is not served.");
    let path = |file: String| base_dir.join(file);
    match (cert, key) {
        (Some(cert), Some(key)) => Some(Tls {
            cert: path(cert),
            key: path(key),
            client_ca: client_ca.map(path),
        }),
        (None, None) if client_ca.is_none() => None,
        (cert, _) => {
            let missing = if cert.is_none() { "cert" } else { "key" };
            reader.wrong(
                missing,
                format!("`http.tls` needs `http.tls.{missing}` as well"),
            );
            None
        }
    }
}

fn admin(reader: &mut Reader<'_, '_>) -> Admin {
    let listen = listen(
        reader,
        "127.0.0.1:9090",
        "Address and port of metrics and the admin API. Anything but loopback needs a token.",
    );
    reader.keep_private("token");
    let token = reader.text(
        "token",
        None,
        "Bearer token of the admin API. Without one, everybody on this host may use it.",
    );
    if token.as_deref() == Some("") {
        reader.wrong("token", "`admin.token` is empty; give it a long random text, or leave it out on a loopback address");
    }
    if !listen.ip().is_loopback() && token.is_none() {
        reader.wrong("listen", format!("`admin.listen` is not a loopback address ({listen}): set `admin.token`, or listen on 127.0.0.1"));
    }
    Admin {
        listen,
        token: token.map(Into::into),
    }
}

fn aggregate(reader: &mut Reader<'_, '_>) -> Aggregate {
    let doc = "What stands between a server's name and the name of its tool or prompt, where `/mcp` offers all servers as one.";
    let separator = reader.text("separator", Some("__"), doc);
    let separator = separator.unwrap_or_else(|| "__".to_owned());
    if separator.is_empty() || !separator.chars().all(is_of_a_tool_name) {
        reader.wrong("separator", format!("`aggregate.separator` must be made of what names of tools are made of (letters, digits, `_`, `-`, `.`, `/`), not \"{separator}\""));
    }
    Aggregate {
        separator,
        list_timeout: reader.duration("list_timeout", secs(5), "How long a list of all servers waits for one of them. One that takes longer is missing in it, which the list says; the client is told that the list has changed when it has answered."),
    }
}

/// 2025-11-25, server/tools, "Tool Names"; the slash was among them in earlier drafts, and is in use.
fn is_of_a_tool_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/')
}

fn pool(reader: &mut Reader<'_, '_>) -> Pool {
    let pool = Pool {
        max_workers: reader.count("max_workers", 64, 1, "Worker processes of all tenants. When all are in use, idle ones are evicted and requests wait."),
        max_workers_per_tenant: reader.count("max_workers_per_tenant", 8, 1, "Worker processes of one tenant, unless the tenant has a limit of its own."),
        max_starting: reader.count("max_starting", 2, 1, "Cold starts at once. A start is bound by CPU: more of them at once make each slower. One counts for 10 s: what takes longer waits for something else. A tenant that has none of them gets one more while others take longer than usual."),
        max_memory: reader.size_or_share("max_memory", 75, "Memory of all workers, as a share of the host's or a size. When it is used up, idle workers hibernate or stop before others start, and requests wait. Beside it stdiopool takes 0.3 MiB for each worker, for its init process (with 5,000 workers 1.5 GiB)."),
        queue_limit: reader.count("queue_limit", 1024, 1, "Requests that wait for a worker, of all tenants. One more is refused with 503, or one of the tenant that waits with most."),
        queue_timeout: reader.duration("queue_timeout", secs(30), "How long a request waits for a worker before it is refused with 503."),
        idle_timeout: reader.duration("idle_timeout", secs(600), "How long a worker may be idle before it is stopped. Its sessions go on; the next request starts another."),
        hibernate_after: reader.duration_or_never("hibernate_after", secs(30), "How long until an idle worker's memory is paged out, where the host can (`stdiopool doctor` says whether); \"never\": not at all. The next request wakes it. One that comes back to memory by itself, as a collector of garbage brings it, is paged out again: as long after the last time, then twice as long each time, at most an hour."),
        hibernate_stop: reader.boolean("hibernate_stop", false, "Hibernated workers are stopped too (SIGSTOP): nothing in them runs, so nothing pages them in again, until the next request. Not for servers that do something by themselves."),
        catalog_age: reader.duration_or_never("catalog_age", secs(3600), "How long a server's answers to `initialize` and to list requests are remembered, so that a client which only connects and lists starts no worker; \"never\": not at all. A list goes sooner when a worker says it has changed, everything when another version introduces itself."),
        max_lifetime: reader.duration("max_lifetime", secs(86_400), "How long a worker may live before it is replaced."),
        max_requests: reader.number("max_requests", Some(0), 0..=u64::from(u32::MAX), "Requests after which a worker is replaced; 0: never.").unwrap_or(0),
        session_timeout: reader.duration("session_timeout", secs(86_400), "How long a session may go unused before it ends."),
        max_sessions_per_tenant: reader.count("max_sessions_per_tenant", 10_000, 1, "Open sessions of one tenant, those that a restart left behind included. One more is refused with 429."),
        drain_timeout: reader.duration("drain_timeout", secs(30), "How long a shutdown waits for requests in flight, and how long a worker that is to be replaced (by a reload, `max_lifetime`, `max_requests`) may go on with those it has while others wait for the next worker of its key; then it is stopped, and they fail."),
        pass_env: reader.texts("pass_env", &PASSED, "Variables of stdiopool's own environment that every worker gets. Nothing else of it does, but for PATH, HOME and LANG. Installs of packages also see what configures npm and uv (`NPM_CONFIG_*`, `UV_*`, proxies); a command that is run as written, by itself or behind `sh -c`, `env` and the like, is not started where it would ask another registry without those, until they are named here."),
    };
    for name in &pool.pass_env {
        if !is_variable(name) {
            reader.wrong(
                "pass_env",
                format!("\"{name}\" in `pool.pass_env` is not the name of a variable"),
            );
        }
    }
    pool
}

/// The state folder of a pool.toml below `base_dir` in which `state.dir` is `dir`.
pub fn state_dir(dir: Option<&str>, base_dir: &Path) -> PathBuf {
    let given = std::env::var_os("STATE_DIRECTORY").filter(|dir| !dir.is_empty());
    let dir = given.map_or_else(|| PathBuf::from(dir.unwrap_or(".stdiopool")), Into::into);
    base_dir.join(dir)
}

fn state(reader: &mut Reader<'_, '_>, base_dir: &Path) -> State {
    let doc = "The folder for state and tenants' data, from pool.toml's folder. STATE_DIRECTORY of systemd goes before it. One stdiopool per folder.";
    let dir = reader.text("dir", Some(".stdiopool"), doc);
    reader.keep_private("key");
    let key = reader.table("key", |reader| {
        let doc = "Where the key of the secrets in the state folder is: 32 bytes in hexadecimal or base64 (openssl rand -hex 32), in a variable of stdiopool's environment, a file, or on the output of a command. Without one, the credential `stdiopool-key` of systemd's unit, if there is one.";
        secret_source::source(reader, base_dir, doc)
    });
    let doc = "How often files and commands are read again from which running workers have secrets; \"never\": only with a reload. A secret that has changed there leads to new workers, and those with the old one finish what they have. A command that prints something else each time replaces workers each time.";
    let secrets_refresh = reader.duration_or_never("secrets_refresh", secs(60), doc);
    State {
        dir: state_dir(dir.as_deref(), base_dir),
        key,
        secrets_refresh,
    }
}

fn packages(reader: &mut Reader<'_, '_>) -> Packages {
    let day = secs(86_400);
    Packages {
        refresh: reader.duration_or_never("refresh", day, "How often newer versions of the packages that npx and uvx lines run are looked for, where a line names no version or a range; \"never\": not at all. New workers use what is found, old ones finish what they have in flight."),
        keep: reader.duration("keep", 30 * day, "How long a package from which no worker is started stays in the package cache, in the state folder."),
        install_timeout: reader.duration("install_timeout", secs(600), "How long one command of npm or uv may take while a package is installed, by a running stdiopool or by `prefetch`; then it is ended, and the install has failed."),
    }
}

/// Fewest users that a range may have.
const FEWEST_USERS: u32 = 16;
/// Where no range is written: above what distributions give to people, services and containers (`/etc/subuid` up to
/// 600,100,000, systemd up to 1,879,048,191), directories (SSSD and FreeIPA up to 2,000,200,000), and below what systemd
/// calls foreign (2,147,352,576).
const USERS: RangeInclusive<u32> = 2_100_000_000..=2_100_065_535;

fn sandbox(reader: &mut Reader<'_, '_>) -> SandboxUsers {
    let doc = "The Unix users, and groups of the same numbers, of which each tenant's servers have one for themselves, where stdiopool runs as root. Where it does not, they are numbers in a user namespace, to which subordinate users of its own belong outside, if the host gives it as many (`/etc/subuid`, `/etc/subgid`, `newuidmap`). One is a tenant's from its first start on, in the state folder, and another's only when of the first no file in the state folder and no process is left; an eighth of them, 4096 at the most, is for spares, installs and profiles. Choose numbers that nobody else uses on this host. Where these do not exist and none are written, as in a container with a user namespace, 30000-59999 are used. \"none\": all tenants' servers run as the user that stdiopool runs as.";
    let text = reader.text("uids", Some("2100000000-2100065535"), doc);
    let is_none = text.as_deref() == Some("none");
    let range = text.as_deref().and_then(users);
    if let (None, Some(text), false) = (&range, &text, is_none) {
        let fewest = FEWEST_USERS;
        reader.wrong("uids", format!("`sandbox.uids` must be a range of at least {fewest} users from 1000 on, such as \"2100000000-2100065535\", or \"none\", not \"{text}\""));
    }
    SandboxUsers {
        uids: (!is_none).then(|| range.unwrap_or(USERS)),
        is_given: reader.has("uids"),
        of_installs: None,
    }
}

/// Reads `"200000-265535"`.
fn users(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // The last two numbers stand for nobody.
    let is_good = first >= 1000 && last < u32::MAX - 1;
    (is_good && last.checked_sub(first)? + 1 >= FEWEST_USERS).then_some(first..=last)
}
