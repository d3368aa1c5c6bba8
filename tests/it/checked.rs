//! What `check` refuses, and how it says so; the examples of `--help`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::ended::ran;
use super::support::{BINARY, Stdiopool, demo, eventually, until};

/// What `check` says of a file, and whether it takes it.
fn check(dir: &Path, toml: &str, flags: &[&str]) -> (bool, String) {
    std::fs::write(dir.join("pool.toml"), toml).expect("written");
    let output = Command::new(BINARY)
        .arg("check")
        .args(flags)
        .current_dir(dir)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = |more: &str| format!("[servers.x]\n{more}\n");
    for (toml, told) in [
        (
            server("command = \"npx\"\nargs = [\"-y @x/y\"]"),
            "`args[0]` holds a space; did you mean [\"-y\", \"@x/y\"]?",
        ),
        (
            server("command = \"npx -y x\""),
            "`command` is one program; put `-y x` into `args`",
        ),
        (
            server("command = \"/usr/bin/npx -y x\""),
            "`command` is one program; put `-y x` into `args`",
        ),
        (
            format!(
                "[http]\nlisten = \"127.0.0.1:7070\"\n[admin]\nlisten = \"127.0.0.1:7070\"\n{}",
                server("command = \"sh\"")
            ),
            "`http.listen` and `admin.listen` are the same",
        ),
        (
            format!(
                "[admin]\nlisten = \"0.0.0.0:8080\"\ntoken = \"let-me-in\"\n{}",
                server("command = \"sh\"")
            ),
            "have the same port",
        ),
        (
            server("command = \"sh\"\n[servers.x.config.properties.repo]\ntype = \"str\""),
            "`type` must be string, number, integer, boolean, array, object or null, not \"str\"",
        ),
        (
            server("command = \"no-such-program\""),
            "pool.toml:2: `servers.x.command`: command `no-such-program` not found in",
        ),
        (
            server("command = \"sh\"\ncwd = \"nowhere\""),
            "pool.toml:3: `servers.x.cwd`: there is no folder",
        ),
        (
            server("command = \"/usr/bin/env foo\""),
            "pool.toml:2:11: `command` is one program, which is looked for on the PATH as `env` does: write command = \"foo\"",
        ),
        (
            server("command = \"env npx -y x\""),
            "write command = \"npx\" and args = [\"-y\", \"x\"]",
        ),
        (
            server("command = \"~/bin/x\""),
            "pool.toml:2:11: `command` begins with `~`, which a shell would read as a home folder, and there is none here: write the whole path",
        ),
        (
            server("command = \"$HOME/bin/x\""),
            "`command` begins with `$HOME`",
        ),
        (
            format!(
                "{}[policy.p]\nservers = [\"y\"]\n",
                server("command = \"sh\"")
            ),
            "`policy.p.servers` has \"y\", which matches no server",
        ),
        (
            format!(
                "[state]\nkey = {{ file = \"gone.key\" }}\n{}",
                server("command = \"sh\"")
            ),
            "gone.key: No such file",
        ),
        (
            format!(
                "[tenants.a]\nsecrets.k = {{ file = \"gone\" }}\n{}",
                server("command = \"sh\"\nenv = { K = \"${secret.k}\" }")
            ),
            "pool.toml:2: `tenants.a.secrets.k`: ",
        ),
    ] {
        let (ok, said) = check(dir.path(), &toml, &[]);
        assert!(!ok && said.contains(told), "{toml}\n{said}");
        assert!(said.contains("pool.toml: 1 mistake\n"), "{toml}\n{said}");
    }
}

/// A file as `check` is given it and as it is served: the tables that tests add are in it.
fn served(toml: &str) -> String {
    format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[state]\ndir = \"state\"\n{toml}"
    )
}

/// What is said of each file, by whoever looks at it, and whether it is put in force.
#[tokio::test]
async fn check_serve_and_reload_say_the_same_of_every_file() {
    const GOOD: &str = "[servers.x]\ncommand = \"cat\"\n";
    // Refused by all, or taken by all with these words.
    let mistakes = [
        "[servers.x]\ncommand = \"cat\"\ncolour = 1\n".to_owned(),
        format!("{GOOD}[policy.p]\nservers = [\"y\"]\n"),
        format!("{GOOD}[policy.p]\ntools.deny = [\"[a\"]\n"),
        "[servers.x]\ncommand = \"~/x\"\n".to_owned(),
        format!("{GOOD}[servers.x.config.properties.a]\npattern = \"(\"\n"),
        format!("{GOOD}[tenants.a]\nconfig.y = {{}}\n"),
        format!("{GOOD}[auth]\nmode = \"header\"\ntrusted_proxies = [\"::ffff:127.0.0.1\"]\n"),
        "[servers.x\n".to_owned(),
    ];
    let odd = [
        (
            "[servers.x]\ncommand = \"cat\"\nargs = [\"~/notes\"]\n".to_owned(),
            "`servers.x.args[0]` has `~` for a folder",
        ),
        (
            "[servers.x]\ncommand = \"cat\"\nargs = [\"sk-proj-0123456789abcdefghij\"]\n"
                .to_owned(),
            "`servers.x.args[0]` holds what looks like a credential (\"sk-…\")",
        ),
        (
            "[servers.x]\ncommand = \"env\"\nargs = [\"npx\", \"-y\", \"p\"]\n".to_owned(),
            "`servers.x.command` is `env`, behind which `npx` is not seen",
        ),
        (
            "[servers.x]\ncommand = \"cat\"\nargs = [\"${secret.k}\"]\n".to_owned(),
            "server `x` needs `secret.k`, which no tenant of this file has",
        ),
        (
            format!("{GOOD}[limits]\nmemory_held = \"400MiB\"\n"),
            "`limits.memory_held` is 400MiB, more than a quarter of `http.memory`",
        ),
        (
            "[servers.x]\ncommand = \"npx\"\nargs = [\"--frobnicate\", \"p\"]\n".to_owned(),
            "the command of server `x` is run as written: what `--frobnicate` changes is not known",
        ),
        (
            "[servers.x]\ncommand = \"cat\"\nargs = [\"https://me:0123456789@r.example.com/\"]\n"
                .to_owned(),
            "`servers.x.args[0]` holds what looks like a credential (a password in a URL)",
        ),
        (
            format!("{GOOD}[servers.x.config]\nrequired = [\"repo\"]\n"),
            "server `x` needs `config.repo`, which no tenant of this file sets and no caller may",
        ),
        (
            format!("{GOOD}[tenants.acme]\n[policy.p]\ntenants = [\"amce\"]\n"),
            "`policy.p.tenants` has \"amce\", which matches no tenant; did you mean \"acme\"?",
        ),
        (
            format!("{GOOD}roots = [\"nowhere\"]\n"),
            "`servers.x.roots`: there is no folder",
        ),
    ];
    // Missing on this host: told by `check` as mistakes, by the others as what some calls will come to.
    let missing = [
        (
            "[servers.x]\ncommand = \"no-such-program\"\n".to_owned(),
            "`servers.x.command`: command `no-such-program` not found",
        ),
        (
            "[servers.x]\ncommand = \"cat\"\ncwd = \"nowhere\"\n".to_owned(),
            "`servers.x.cwd`: there is no folder",
        ),
        (
            format!(
                "{GOOD}env = {{ K = \"${{secret.k}}\" }}\n[tenants.a]\nsecrets.k = {{ file = \"gone\" }}\n"
            ),
            "`tenants.a.secrets.k`: ",
        ),
        (
            format!("{GOOD}[tenants.a]\nsecrets.k = {{ env = \"NEVER_SET_BY_ANYBODY\" }}\n"),
            "`tenants.a.secrets.k`: variable NEVER_SET_BY_ANYBODY is not set",
        ),
        (
            format!("{GOOD}[tenants.a]\nsecrets.k = {{ command = [\"no-such-program\"] }}\n"),
            "`tenants.a.secrets.k`: command `no-such-program` not found",
        ),
        (
            "[servers.x]\ncommand = \"cat\"\ncwd = \"nowhere/${tenant.id}\"\n".to_owned(),
            "in which all of them are; create it, or change `cwd`",
        ),
        (
            "[servers.x]\ncommand = \"cat\"\ncwd = \"${tenant.id}-files\"\n[tenants.a]\n"
                .to_owned(),
            "/a-files; create it, or change `cwd`",
        ),
        (
            format!(
                "{GOOD}[auth]\nmode = \"jwt\"\nissuer = \"https://id.example.com\"\naudience = [\"x\"]\njwks_file = \"gone.json\"\ntenant_claim = \"org\"\n"
            ),
            "`auth.jwks_file`: ",
        ),
    ];
    // Nobody could be served without.
    let fatal = [
        (
            format!("{GOOD}[state.key]\ncommand = [\"no-such-program\"]\n"),
            "`state.key`: command `no-such-program` not found",
        ),
        (
            format!("{GOOD}[audit]\nfile = \"no/folder/audit.jsonl\"\n"),
            "audit.file",
        ),
        (
            format!("{GOOD}[http.tls]\ncert = \"gone.pem\"\nkey = \"gone.pem\"\n"),
            "gone.pem",
        ),
    ];
    let pool = Stdiopool::serve(GOOD);
    let file = pool.dir.path().join("pool.toml");
    let reload = |toml: &str| {
        std::fs::write(&file, toml).expect("written");
        let before = pool.log().len();
        let (ok, _, why) = ran(&pool, &["reload"]);
        (ok, why + &pool.log()[before..])
    };
    let dir = tempfile::tempdir().expect("a folder");
    let refused_by_serve = |toml: &str| {
        std::fs::write(dir.path().join("pool.toml"), toml).expect("written");
        let output = Command::new(BINARY)
            .arg("serve")
            .current_dir(dir.path())
            .output();
        let output = output.expect("it ends");
        assert!(!output.status.success(), "{toml}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let served_with = |toml: &str| {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("pool.toml"), toml).expect("written");
        Stdiopool::run(dir, &[], &[])
    };
    let warned = |log: &str, text: &str| {
        let mut lines = log.lines();
        let place = |line: &str| {
            line.split_once("pool.toml:")
                .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        lines.any(|line| line.contains("WARN") && line.contains(text) && place(line))
    };
    for toml in &mistakes {
        let toml = served(toml);
        let (ok, told) = check(dir.path(), &toml, &["--file-only"]);
        assert!(!ok && told.contains("pool.toml:"), "{toml}\n{told}");
        let first = told
            .lines()
            .next()
            .expect("a mistake")
            .split_once(": ")
            .expect("a place")
            .1;
        let (ok, why) = reload(&toml);
        assert!(!ok && why.contains(first), "{toml}\n{first}\n{why}");
        let why = refused_by_serve(&toml);
        assert!(why.contains(first), "{toml}\n{first}\n{why}");
    }
    for (toml, text) in &fatal {
        let toml = served(toml);
        let (ok, told) = check(dir.path(), &toml, &[]);
        assert!(
            !ok && told.contains(text) && told.contains("pool.toml:"),
            "{toml}\n{told}"
        );
        let (ok, why) = reload(&toml);
        assert!(!ok && why.contains(text), "{toml}\n{why}");
        assert!(refused_by_serve(&toml).contains(text), "{toml}");
    }
    for (rows, is_missing) in [(&odd[..], false), (&missing[..], true)] {
        for (toml, text) in rows {
            let toml = served(toml);
            let (ok, told) = check(dir.path(), &toml, &[]);
            assert_eq!(ok, !is_missing, "{toml}\n{told}");
            let line = told
                .lines()
                .find(|line| line.contains(text))
                .unwrap_or_else(|| panic!("{toml}\n{told}"));
            assert!(line.starts_with("pool.toml:"), "{line}");
            assert_eq!(line.contains(": warning: "), !is_missing, "{line}");
            assert!(!told.contains("0123456789"), "{told}");
            let (ok, why) = check(dir.path(), &toml, &["--file-only"]);
            assert!(ok, "{toml}\n{why}");
            let (ok, _) = check(dir.path(), &toml, &["--strict"]);
            assert!(!ok, "{toml}");
            let before = pool.log().len();
            let (ok, why) = reload(&toml);
            assert!(ok, "{toml}\n{why}");
            // Its log comes on a way of its own.
            until("it is warned of", || {
                warned(&pool.log()[before..], text).then_some(())
            });
            let other = served_with(&toml);
            until("it is warned of", || {
                warned(&other.log(), text).then_some(())
            });
        }
    }
}

#[test]
fn a_state_folder_that_is_none_is_told_before_anything_is_served() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("state"), "").expect("written");
    for place in ["state", "state/below"] {
        let toml = format!("[state]\ndir = \"{place}\"\n[servers.x]\ncommand = \"cat\"\n");
        let (ok, told) = check(dir.path(), &toml, &[]);
        let is_told = told.starts_with("pool.toml:2: the state folder ")
            && told.contains("/state is no folder; choose another");
        assert!(!ok && is_told, "{told}");
    }
}

#[test]
fn all_that_is_wrong_is_told_in_one_run_each_on_its_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let toml = "[pool]\nmax_wrokers = 1\n\n[servers.a]\ncommand = \"no-such-program\"\nargs = [\"~/x\"]\n[servers.b]\ncomand = \"also-none\"\ncwd = \"nowhere\"\n[servers.c]\ncommand = 5\n";
    let (ok, said) = check(dir.path(), toml, &[]);
    assert!(!ok);
    let places: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("pool.toml:"))
        .map(|line| line.split(':').nth(1).unwrap_or_default())
        .collect();
    // Mistakes of the file, then what is odd in it, then what this host lacks; what follows from a mistake is not told.
    assert_eq!(
        places,
        ["2", "7", "8", "11", "6", "5", "9", " 6 mistakes"],
        "{said}"
    );
    assert!(
        said.contains("pool.toml:5: `servers.a.command`: command `no-such-program` not found"),
        "{said}"
    );
    let (_, said) = check(dir.path(), toml, &["--file-only"]);
    assert!(!said.contains("no-such-program` not found"), "{said}");
}

/// Runs `check` in an environment with those variables, and gives all that it says.
fn check_in(dir: &Path, toml: &str, variables: &[(&str, &str)]) -> (bool, String) {
    std::fs::write(dir.join("pool.toml"), toml).expect("written");
    let output = Command::new(BINARY)
        .arg("check")
        .current_dir(dir)
        .envs(variables.iter().copied())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

#[tokio::test]
async fn what_a_start_will_come_to_is_told_before_in_the_words_of_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let own = [("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")];
    let toml = served(
        "[servers.written]\ncommand = \"npx\"\nargs = [\"-y\", \"secret-name\"]\nlaunch = \"as-is\"\n[servers.odd]\ncommand = \"npx\"\nargs = [\"--frobnicate\", \"p\"]\n[servers.direct]\ncommand = \"npx\"\nargs = [\"-y\", \"p@1.0.0\", \"${config.x:-y}\"]\n[servers.any]\ncommand = \"npx\"\nargs = [\"${config.package:-p}\"]\n[servers.plain]\ncommand = \"cat\"\n",
    );
    let (ok, said) = check_in(dir.path(), &toml, &own);
    assert!(!ok, "{said}");
    let refused = "server `written` is not started: it would be run as written (`launch = \"as-is\"`), and without NPM_CONFIG_REGISTRY of stdiopool's own environment it would ask another registry for its packages: name that in `pool.pass_env`, which gives it to every worker, or set it in `servers.written.env`";
    assert!(said.contains(&format!("pool.toml:8: {refused}")), "{said}");
    assert!(said.contains("server `odd` is not started: it would be run as written (what `--frobnicate` changes is not known)"), "{said}");
    assert!(
        !said.contains("server `any`") && !said.contains("server `direct`"),
        "{said}"
    );
    // The start itself says the same.
    let file = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(
        tempfile::tempdir().expect("a folder"),
        &["--config".to_owned(), file],
        &own,
    );
    until("it is warned of", || {
        pool.log().contains(refused).then_some(())
    });
    let answer = pool
        .client("written")
        .try_initialize("2025-11-25", json!({}))
        .await;
    let words = refused.split_once(": ").expect("behind the server").1;
    assert!(answer.message().contains(words), "{}", answer.message());
    // Without such a variable there is another outlook.
    let (ok, said) = check_in(dir.path(), &toml, &[("NPM_CONFIG_REGISTRY", "")]);
    assert!(ok, "{said}");
    for line in [
        "server `any`: it is up to each tenant's config what is started (argument 1 is known only when it is started)\n",
        "server `direct`: package `p@1.0.0` is installed and started from there\n",
        "server `odd`: its command is run as written, as warned of\n",
        "server `plain`: its command is run as written\n",
        "server `written`: its command is run as written\n",
        "pool.toml:12: warning: the command of server `odd` is run as written: what `--frobnicate` changes is not known (`launch = \"as-is\"` says that it shall be)\n",
        "pool.toml: ok (5 servers, 0 tenants, ",
    ] {
        assert!(said.contains(line), "{line}{said}");
    }
}

/// Whatever runs a launcher, and whatever may: where the operator's environment says from where packages come.
#[tokio::test]
async fn what_a_wrapper_runs_asks_no_other_registry_without_a_word() {
    let dir = tempfile::tempdir().expect("a folder");
    let own = [
        ("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9"),
        ("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple"),
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("PIP_FIND_LINKS", ""),
    ];
    let script = dir.path().join("server.sh");
    std::fs::write(&script, "#!/usr/bin/env sh\nexec npx -y @corp/x\n").expect("written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("changed");
    let servers = [
        (
            "shell",
            r#"command = "sh"
args = ["-c", "npx -y @corp/x --repo ${config.repo}"]"#,
        ),
        (
            "behind-env",
            r#"command = "env"
args = ["A=1", "npx", "-y", "@corp/x"]"#,
        ),
        (
            "login",
            r#"command = "bash"
args = ["-lc", "cd / && exec uvx x"]"#,
        ),
        (
            "patient",
            r#"command = "timeout"
args = ["60", "nice", "npx", "x"]"#,
        ),
        (
            "said",
            r#"command = "env"
args = ["NPM_CONFIG_REGISTRY=http://127.0.0.1:9", "HTTPS_PROXY=", "npx", "-y", "x"]
env = { HTTPS_PROXY = "http://127.0.0.1:9" }"#,
        ),
        (
            "named",
            r#"command = "node"
args = ["gateway.js", "--stdio", "npx -y @corp/x"]"#,
        ),
        ("script", "command = \"./server.sh\""),
        (
            "given",
            "command = \"./server.sh\"\nenv = { NPM_CONFIG_REGISTRY = \"http://127.0.0.1:9\", UV_DEFAULT_INDEX = \"\" }",
        ),
        (
            "native",
            "command = \"stdiopool\"\nargs = [\"demo-server\"]",
        ),
        ("fed", "command = \"xargs\"\nargs = [\"npx\"]"),
        (
            "finder",
            r#"command = "find"
args = [".", "-exec", "npx", "-y", "{}", ";"]"#,
        ),
        (
            "inline",
            r#"command = "python3"
args = ["-c", "import os; os.execvp('npx', ['npx', '-y', '@corp/x'])"]"#,
        ),
    ];
    let tables = servers.map(|(name, server)| format!("[servers.{name}]\n{server}\n"));
    let toml = served(&tables.concat());
    let (ok, said) = check_in(dir.path(), &toml, &own);
    assert!(!ok, "{said}");
    let refused = |name: &str, why: &str, variable: &str| {
        format!(
            "server `{name}` is not started: it would be run as written ({why}), and without {variable} of stdiopool's own environment it would ask another registry"
        )
    };
    let shell = refused("shell", "`sh` runs `npx`", "NPM_CONFIG_REGISTRY");
    for told in [
        &shell,
        &refused("behind-env", "`env` runs `npx`", "NPM_CONFIG_REGISTRY"),
        &refused("login", "`bash` runs `uvx`", "UV_DEFAULT_INDEX"),
        &refused("patient", "`timeout` runs `npx`", "NPM_CONFIG_REGISTRY"),
        &refused("fed", "`xargs` runs `npx`", "NPM_CONFIG_REGISTRY"),
        &refused("finder", "`find` runs `npx`", "NPM_CONFIG_REGISTRY"),
    ] {
        let lines = said.lines();
        let is_told = |line: &str| line.starts_with("pool.toml:") && line.contains(told.as_str());
        assert!(lines.into_iter().any(is_told), "{told}\n{said}");
    }
    for told in [
        "warning: server `named` is run as written and may run `npx`, which would not see NPM_CONFIG_REGISTRY of stdiopool's own environment",
        "warning: server `inline` is run as written and may run `npx`, which would not see NPM_CONFIG_REGISTRY of stdiopool's own environment",
        "warning: server `named` is run as written, and its `npx` would download without HTTPS_PROXY of stdiopool's own environment",
        "(servers `script`) comes from elsewhere than NPM_CONFIG_REGISTRY, UV_DEFAULT_INDEX of stdiopool's own environment says",
    ] {
        assert!(said.contains(told), "{told}\n{said}");
    }
    for silent in ["server `said` is not", "`native` is", "`given`)"] {
        assert!(!said.contains(silent), "{silent}\n{said}");
    }
    // At the start of `serve`, to a caller, and by `doctor`.
    let file = dir.path().join("pool.toml").display().to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let pool = Stdiopool::run(folder, &["--config".to_owned(), file], &own);
    until("it is warned of", || {
        let log = pool.log();
        (log.contains(&shell) && log.contains("may run `npx`")).then_some(())
    });
    let client = pool.client("behind-env");
    let answer = client.try_initialize("2025-11-25", json!({})).await;
    let told = "without NPM_CONFIG_REGISTRY of stdiopool's own environment";
    assert!(answer.message().contains(told), "{}", answer.message());
    let doctor = Command::new(BINARY)
        .args(["doctor"])
        .current_dir(dir.path())
        .envs(own)
        .output();
    let doctor = doctor.expect("runs").stdout;
    let doctor = String::from_utf8_lossy(&doctor).into_owned();
    for told in [
        "installs see HTTPS_PROXY, NPM_CONFIG_REGISTRY, UV_DEFAULT_INDEX",
        &*shell,
        "may run `npx`",
    ] {
        assert!(doctor.contains(told), "{told}\n{doctor}");
    }
    // Passed to all, nothing is left to say of registries.
    let toml = format!(
        "[pool]\npass_env = [\"NPM_CONFIG_REGISTRY\", \"UV_DEFAULT_INDEX\", \"HTTPS_PROXY\"]\n{toml}"
    );
    let (_, said) = check_in(dir.path(), &toml, &own);
    assert!(!said.contains("own environment"), "{said}");
    // The public registry is handed on: nothing is asked elsewhere for lack of it.
    let toml = served("[servers.x]\ncommand = \"npx\"\nargs = [\"x\"]\nlaunch = \"as-is\"\n");
    let public = [("npm_config_registry", "https://registry.npmjs.org/")];
    let (ok, said) = check_in(dir.path(), &toml, &public);
    assert!(ok && !said.contains("own environment"), "{said}");
}

#[test]
fn a_key_that_others_can_read_is_refused_and_a_program_with_a_space_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let key = dir.path().join("state.key");
    std::fs::write(&key, "0".repeat(64)).expect("written");
    let mode = |mode| {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("changed");
    };
    let program = dir.path().join("my server");
    std::fs::write(&program, "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("changed");
    let toml = "[state]\nkey = { file = \"state.key\" }\n[servers.x]\ncommand = \"./my server\"\nargs = [\"a b\", \"-x y\"]\n";
    mode(0o644);
    let (ok, said) = check(dir.path(), toml, &[]);
    assert!(
        !ok && said.contains("can be read by others (mode 0644)"),
        "{said}"
    );
    // Whoever would serve with it says so too.
    let served = Command::new(BINARY)
        .args(["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .current_dir(dir.path())
        .output();
    let why = String::from_utf8_lossy(&served.expect("it ends").stderr).into_owned();
    assert!(why.contains("can be read by others (mode 0644)"), "{why}");
    mode(0o640);
    let (ok, said) = check(dir.path(), toml, &[]);
    assert!(
        ok && said.contains("pool.toml:2: warning: `state.key`: the group of"),
        "{said}"
    );
    mode(0o600);
    let (ok, said) = check(dir.path(), toml, &[]);
    assert!(ok, "{said}");
    // Elsewhere than on the host where it is served, only the file can be checked.
    let elsewhere = "[servers.x]\ncommand = \"no-such-program\"\n";
    let (ok, said) = check(dir.path(), elsewhere, &["--file-only"]);
    assert!(ok, "{said}");
}

#[tokio::test]
async fn a_rule_that_matches_no_tool_is_told_and_the_tool_that_was_meant_is_not_called() {
    let toml = demo(
        "demo",
        "bind.ehco = { message = \"bound\" }\ntools.deny = [\"delete_*\"]",
    );
    let pool = Stdiopool::serve(&toml);
    let (ok, said, why) = ran(&pool, &live(&pool));
    assert!(
        ok && why.contains("nobody has listed the tools of server `demo` yet"),
        "{said}{why}"
    );
    let client = pool.client("demo").connect().await;
    client.ask("tools/list", json!({})).await.result();
    let refused = client.call("echo", json!({"message": "mine"})).await;
    assert_eq!(refused.reason(), "config_invalid", "{refused:?}");
    assert!(
        refused.message().contains("`servers.demo.bind.ehco`"),
        "{}",
        refused.message()
    );
    // Others go on.
    assert_eq!(
        client.call("add", json!({"a": 1, "b": 2})).await.text(),
        "3"
    );
    let told = [
        "`servers.demo.bind.ehco` matches no tool of the server; did you mean `echo`?",
        "`servers.demo.tools.deny` has \"delete_*\", which matches no tool",
    ];
    let (ok, said, why) = ran(&pool, &live(&pool));
    assert!(!ok, "{said}{why}");
    let (_, events, _) = ran(&pool, &["events", "--server", "demo"]);
    for told in told {
        let log = pool.log();
        let warned = log
            .lines()
            .any(|line| line.contains("WARN") && line.contains(told));
        assert!(warned, "{told}: {log}");
        assert!(why.contains(told), "{told}: {why}");
        let event = events.lines().find(|line| line.contains(told));
        assert!(
            event.is_some_and(|line| line.contains("rule_unmatched")),
            "{events}"
        );
    }
    // Mended, it is called, and bound.
    let file = pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let text = text
        .replace("bind.ehco", "bind.\"ech*\"")
        .replace("delete_*", "slee*");
    std::fs::write(&file, text).expect("written");
    let (ok, _, why) = ran(&pool, &["reload"]);
    assert!(ok, "{why}");
    assert_eq!(client.call("echo", json!({})).await.text(), "bound");
    let (ok, said, why) = ran(&pool, &live(&pool));
    assert!(ok && said.contains("live: 0 rules"), "{said}{why}");
}

fn live(pool: &Stdiopool) -> Vec<&str> {
    let file = pool.dir.path().join("pool.toml");
    // Lives as long as the test.
    let file: &'static str = Box::leak(file.display().to_string().into_boxed_str());
    vec!["check", "--live", "--config", file]
}

#[tokio::test]
async fn the_examples_of_call_and_demo_server_work() {
    let help = |command: &str| {
        let output = Command::new(BINARY).args([command, "--help"]).output();
        String::from_utf8(output.expect("runs").stdout).expect("text")
    };
    let folder = Path::new(BINARY).parent().expect("a folder");
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").expect("set")
    );
    let run = |script: &str, url: &str| {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", script])
            .env("PATH", &path)
            .env("STDIOPOOL_URL", url);
        let output = shell.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {text}{why}");
        text
    };
    let example = |help: &str| {
        let (_, example) = help.split_once("Example").expect("has one");
        example
            .split_once('\n')
            .expect("on the next line")
            .1
            .to_owned()
    };
    // Neither help nor errors are wrapped, into files and pipes above all.
    let wrong = Command::new(BINARY)
        .args([
            "call",
            "x",
            "y",
            "not JSON at all, which is told on one line however long it is",
        ])
        .output();
    let wrong = String::from_utf8_lossy(&wrong.expect("runs").stderr).into_owned();
    assert!(
        wrong
            .lines()
            .next()
            .is_some_and(|line| line.contains("not a JSON object")),
        "{wrong}"
    );
    let said = run(&example(&help("demo-server")), "");
    assert!(said.contains("\"text\":\"3\""), "{said}");
    let pool = Stdiopool::serve(&demo("demo", ""));
    let examples = example(&help("call"));
    let (only, of_file): (Vec<_>, Vec<_>) =
        examples.lines().partition(|line| line.contains("call -"));
    assert!(of_file.len() >= 2, "{examples}");
    for line in of_file.iter().filter(|line| !line.trim().is_empty()) {
        run(line, &pool.url);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--",
        BINARY,
        "demo-server",
    ];
    let alone = Stdiopool::run(dir, &args.map(ToOwned::to_owned), &[]);
    assert!(run(only[0], &alone.url).contains("hi"));
}

#[tokio::test]
async fn a_start_that_is_waited_for_says_what_the_server_said_so_far() {
    let toml = "[pool]\nqueue_timeout = \"2s\"\n[servers.slow]\ncommand = \"sh\"\nargs = [\"-c\", \"echo warming up >&2; sleep 60\"]\n";
    let pool = Stdiopool::serve(toml);
    let client = pool.client("slow");
    let refused = client.try_initialize("2025-11-25", json!({})).await;
    let message = refused.message();
    assert!(
        message.contains("has not answered `initialize` for 2s; stderr so far:\nwarming up"),
        "{message}"
    );
    let (ok, ..) = ran(&pool, &["stop", "w1"]);
    assert!(ok);
    eventually("it is gone", async || pool.workers().await.is_empty()).await;
}

/// A secret that is there and says nothing is no secret: `check` says so, and no server is started with it.
#[tokio::test]
async fn a_secret_that_holds_nothing_is_missing() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("blank"), " \n\n").expect("written");
    let own = [("EMPTY", ""), ("BLANK", " ")];
    let server = "[servers.x]\ncommand = \"cat\"\nenv = { K = \"${secret.k}\" }\n";
    for (source, told) in [
        ("{ env = \"EMPTY\" }", "variable EMPTY holds nothing"),
        ("{ env = \"BLANK\" }", "variable BLANK holds nothing"),
        ("{ file = \"blank\" }", "blank holds nothing"),
    ] {
        let toml = format!("{server}[tenants.default]\nsecrets.k = {source}\n");
        let (ok, said) = check_in(dir.path(), &served(&toml), &own);
        let line = said.lines().find(|line| line.contains(told));
        let line = line.unwrap_or_else(|| panic!("{source}\n{said}"));
        assert!(!ok && line.starts_with("pool.toml:"), "{said}");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("blank"), "\n\n").expect("written");
        std::fs::write(folder.path().join("pool.toml"), served(&toml)).expect("written");
        let file = folder.path().join("pool.toml").display().to_string();
        let pool = Stdiopool::run(folder, &["--config".to_owned(), file], &own);
        let answer = pool
            .client("x")
            .try_initialize("2025-11-25", json!({}))
            .await;
        assert_eq!(answer.reason(), "config_invalid", "{source}");
    }
}
