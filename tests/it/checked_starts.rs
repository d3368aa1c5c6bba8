//! What `check` says of the starts that will come: of commands, of where their packages come from, of programs.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use super::checked::{check, check_in, served};
use super::ended::ran;
use super::support::{BINARY, Stdiopool, eventually, until};

#[tokio::test]
async fn what_a_start_will_come_to_is_told_before_in_the_words_of_the_start() {
    let dir = crate::support::open_folder().expect("a folder");
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
        crate::support::open_folder().expect("a folder"),
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
    // Without such a variable there is another forecast.
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

/// The launchers of other families than npm's and uv's read files in a home folder that no worker has.
#[tokio::test]
async fn what_the_operators_files_say_of_registries_is_not_passed_over() {
    let dir = crate::support::open_folder().expect("a folder");
    let home = crate::support::open_folder().expect("a folder");
    let put = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("made");
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let bun = put(
        ".bunfig.toml",
        "[install]\nregistry = \"http://127.0.0.1:9/\"\n",
    );
    let pnpm = put(".config/pnpm/rc", "registry=http://127.0.0.1:9/\n");
    let home = home.path().display().to_string();
    let own = [
        ("HOME", home.as_str()),
        ("XDG_CONFIG_HOME", ""),
        ("NPM_CONFIG_REGISTRY", ""),
    ];
    let servers = [
        (
            "bun",
            r#"command = "bunx"
args = ["aged", "x"]"#,
        ),
        (
            "bun-as-is",
            r#"command = "bunx"
args = ["aged", "x"]
launch = "as-is""#,
        ),
        (
            "pnpm",
            r#"command = "pnpm"
args = ["dlx", "aged"]"#,
        ),
        (
            "behind",
            r#"command = "sh"
args = ["-c", "exec bunx aged"]"#,
        ),
        (
            "given",
            r#"command = "bunx"
args = ["aged", "x"]
env = { BUN_CONFIG_REGISTRY = "http://127.0.0.1:9/" }"#,
        ),
        (
            "npm",
            r#"command = "npx"
args = ["-y", "aged"]"#,
        ),
    ];
    let tables = servers.map(|(name, server)| format!("[servers.{name}]\n{server}\n"));
    let toml = served(&tables.concat());
    let (ok, said) = check_in(dir.path(), &toml, &own);
    assert!(!ok, "{said}");
    let refused = |name: &str, why: &str, file: &str, variable: &str| {
        format!(
            "server `{name}` is not started: it would be run as written ({why}), and without {file} of the user that stdiopool runs as, which says where packages come from and is not in a worker's home, it would ask another registry for them: set {variable} in `servers.{name}.env`"
        )
    };
    let goes_by = |file: &str| format!("its launcher goes by {file}");
    for told in [
        refused("bun", &goes_by(&bun), &bun, "BUN_CONFIG_REGISTRY"),
        refused(
            "bun-as-is",
            "`launch = \"as-is\"`",
            &bun,
            "BUN_CONFIG_REGISTRY",
        ),
        refused("pnpm", &goes_by(&pnpm), &pnpm, "PNPM_CONFIG_REGISTRY"),
        refused("behind", "`sh` runs `bunx`", &bun, "BUN_CONFIG_REGISTRY"),
    ] {
        assert!(said.contains(&told), "{told}\n{said}");
    }
    for name in ["given", "npm"] {
        let refused = format!("server `{name}` is not started");
        assert!(!said.contains(&refused), "{said}");
    }
    // The start says so too, and installs nothing.
    let file = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(
        crate::support::open_folder().expect("a folder"),
        &["--config".to_owned(), file],
        &own,
    );
    let answer = pool
        .client("bun")
        .try_initialize("2025-11-25", json!({}))
        .await;
    assert!(answer.message().contains(&bun), "{}", answer.message());
}

/// Whatever runs a launcher, and whatever may: where the operator's environment says from where packages come.
#[tokio::test]
async fn what_a_wrapper_runs_asks_no_other_registry_without_a_word() {
    let dir = crate::support::open_folder().expect("a folder");
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
    let folder = crate::support::open_folder().expect("a folder");
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
    let dir = crate::support::open_folder().expect("a folder");
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
