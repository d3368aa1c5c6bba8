//! Install scripts of npm's packages, under npm 11, which runs them, and 12, which does not: what did not run is told, what is
//! allowed runs, and what scripts download is there for all tenants. From `tests/launchers.sh` and a registry on loopback.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::registry::{Registry, launchers};
use super::support::{BINARY, Stdiopool};

struct Bench {
    registry: Registry,
    npm: &'static str,
}

impl Bench {
    fn of(npm: &'static str) -> Self {
        let registry = Registry::start();
        Self { registry, npm }
    }

    /// A server of that npm, which asks that registry; `env` and `more` are added.
    fn server(&self, name: &str, args: &[&str], env: &str, more: &str) -> String {
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", launchers(self.npm).display());
        format!(
            "[servers.{name}]\ncommand = \"npx\"\nargs = {args:?}\nstart_timeout = \"60s\"\n{more}\n[servers.{name}.env]\nPATH = {path:?}\nnpm_config_registry = {:?}\n{env}\n",
            self.registry.url
        )
    }
}

fn folder(toml: &str) -> TempDir {
    let dir = crate::support::open_folder().expect("a folder");
    let toml = format!("[pool]\nqueue_timeout = \"2m\"\n{toml}");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    dir
}

fn serve(dir: TempDir) -> Stdiopool {
    serve_with(dir, &[])
}

fn serve_with(dir: TempDir, env: &[(&str, &str)]) -> Stdiopool {
    let config = dir.path().join("pool.toml").display().to_string();
    Stdiopool::run(dir, &["--config".to_owned(), config], env)
}

/// What a command prints.
fn printed(dir: &Path, command: &str) -> String {
    let mut run = assert_cmd::Command::new(BINARY);
    run.arg(command).arg("--config").arg(dir.join("pool.toml"));
    let done = run.assert().success();
    String::from_utf8_lossy(&done.get_output().stdout).into_owned()
}

async fn told(pool: &Stdiopool, tenant: &str, server: &str) -> Value {
    let client = pool.client_of(tenant, server).connect().await;
    let answer = client.call("tell", json!({})).await;
    serde_json::from_str(answer.text()).unwrap_or_else(|error| panic!("{error} in {answer:?}"))
}

/// How the start of a server failed.
async fn failure(pool: &Stdiopool, server: &str) -> String {
    let refused = pool.client(server);
    let refused = refused.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.reason(), "start_failed", "{refused:?}");
    refused.message().to_owned()
}

#[tokio::test]
async fn npm_12_runs_what_is_allowed_and_what_did_not_run_is_told_everywhere() {
    let bench = Bench::of("npm12");
    let dir = folder(&format!(
        "{}{}{}{}",
        bench.server("plain", &["-y", "needing"], "", ""),
        bench.server(
            "allowed",
            &["-y", "needing"],
            "npm_config_allow_scripts = \"shim\"",
            ""
        ),
        bench.server(
            "flagged",
            &["-y", "--allow-scripts=shim", "needing"],
            "",
            ""
        ),
        bench.server(
            "everything",
            &["-y", "--dangerously-allow-all-scripts", "needing"],
            "",
            ""
        ),
    ));
    let not_run = "install scripts of shim@1.0.0 did not run: npm 12.";
    let remedy =
        |server: &str| format!("set npm_config_allow_scripts = \"shim\" in `servers.{server}.env`");
    let fetched = printed(dir.path(), "prefetch");
    assert_eq!(fetched.matches(not_run).count(), 1, "{fetched}");
    assert!(fetched.contains(&remedy("plain")), "{fetched}");
    let looked = printed(dir.path(), "doctor");
    assert!(
        looked.contains(not_run) && looked.contains(&remedy("NAME")),
        "{looked}"
    );
    let pool = serve(dir);
    for server in ["allowed", "flagged", "everything"] {
        assert_eq!(told(&pool, "default", server).await["version"], "1.0.0");
    }
    let why = failure(&pool, "plain").await;
    for part in [not_run, &remedy("plain"), "shim was not built"] {
        assert!(why.contains(part), "{why}");
    }
    assert!(!pool.log().contains("as written"), "{}", pool.log());
}

#[tokio::test]
async fn npm_11_runs_all_scripts_and_none_that_are_ignored() {
    let bench = Bench::of("npm11");
    let ignored = "npm_config_ignore_scripts = \"true\"";
    let pool = serve(folder(&format!(
        "{}{}{}",
        bench.server("plain", &["-y", "needing"], "", ""),
        bench.server(
            "allowed",
            &["-y", "needing"],
            "npm_config_allow_scripts = \"shim\"",
            ""
        ),
        bench.server("ignored", &["-y", "needing"], ignored, ""),
    )));
    for server in ["plain", "allowed"] {
        assert_eq!(told(&pool, "default", server).await["version"], "1.0.0");
    }
    let why = failure(&pool, "ignored").await;
    assert!(
        why.contains("did not run: npm's `ignore-scripts` is set"),
        "{why}"
    );
    assert!(!pool.log().contains("as written"), "{}", pool.log());
}

#[tokio::test]
async fn what_npm_repeats_of_a_command_line_is_kept_back_or_masked() {
    let bench = Bench::of("npm12");
    let args = ["-y", "needing", "--key=${secret.key}"];
    let as_is = "launch = \"as-is\"";
    let loud = "npm_config_loglevel = \"notice\"";
    let dir = folder(&format!(
        "{}{}{}[tenants.default]\nsecrets.key = {{ env = \"KEY\" }}\n",
        bench.server("quiet", &args, "", as_is),
        bench.server("loud", &args, loud, as_is),
        bench.server("git", &["-y", "git+https://127.0.0.1:9/x.git"], "", as_is),
    ));
    let pool = serve_with(dir, &[("KEY", "pass'word")]);
    let quiet = failure(&pool, "quiet").await;
    assert!(!quiet.contains("npm notice"), "{quiet}");
    for part in [
        "wants install scripts",
        "of shim@1.0.0",
        "_npx, since npx runs none later",
    ] {
        assert!(quiet.contains(part), "{quiet}");
    }
    let loud = failure(&pool, "loud").await;
    assert!(
        loud.contains("npm notice run 'needing' --key=[redacted]"),
        "{loud}"
    );
    assert!(
        !loud.contains("word") && !pool.log().contains("pass'"),
        "{loud}"
    );
    let git = failure(&pool, "git").await;
    assert!(git.contains("EALLOWGIT"), "{git}");
}

#[tokio::test]
async fn what_install_scripts_download_is_there_for_all_tenants_and_only_to_be_read() {
    let bench = Bench::of("npm11");
    let server = |version: &str| {
        let spec = format!("browsing@{version}");
        bench.server("browsing", &["-y", &spec], "", "")
    };
    let dir = folder(&server("1.0.0"));
    let fetched = printed(dir.path(), "prefetch");
    assert!(
        fetched.contains("its install scripts downloaded made-1 (1 KiB, PLAYWRIGHT_BROWSERS_PATH)"),
        "{fetched}"
    );
    let looked = printed(dir.path(), "doctor");
    assert!(
        looked.contains("browsing@1.0.0 1.0.0: its install scripts downloaded made-1"),
        "{looked}"
    );
    let pool = serve(dir);
    let mut programs = Vec::new();
    for tenant in ["anna", "bob"] {
        let told = told(&pool, tenant, "browsing").await;
        assert_eq!(
            (&told["found"], &told["written"]),
            (&json!("made"), &json!("EROFS")),
            "{told}"
        );
        programs.push(told["program"].clone());
    }
    assert_eq!(programs[0], programs[1], "one for all");
    let first = programs[0].as_str().expect("a path");
    assert!(
        first.contains("/_npx/npm-"),
        "as scripts of npx expect: {first}"
    );
    // Each version has its own; both survive a restart.
    Stdiopool::write_config(
        pool.dir.path(),
        "[auth]\nmode = \"none\"\n",
        &server("1.1.0"),
    );
    let pool = pool.restarted_after(nix::sys::signal::Signal::SIGTERM);
    let told = told(&pool, "anna", "browsing").await;
    assert_eq!(
        (&told["version"], &told["found"]),
        (&json!("1.1.0"), &json!("made"))
    );
    assert_ne!(told["program"], programs[0]);
    assert!(Path::new(first).exists());
}
