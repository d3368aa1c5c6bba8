//! What `check` refuses, and how it says so.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::ended::ran;
use super::support::{BINARY, Stdiopool, demo, until};

/// What `check` says of a file, and whether it takes it.
pub(crate) fn check(dir: &Path, toml: &str, flags: &[&str]) -> (bool, String) {
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

/// Runs `check` in an environment with those variables, and gives all that it says.
pub(crate) fn check_in(dir: &Path, toml: &str, variables: &[(&str, &str)]) -> (bool, String) {
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

#[test]
fn mistakes_are_told_with_what_was_meant() {
    let dir = crate::support::open_folder().expect("a folder");
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
            server("command = \"sh\"\ncwd = \"/etc/passwd\""),
            "`servers.x.cwd`: there is a file at /etc/passwd, and no folder",
        ),
        (
            server("command = \"/etc\""),
            "`servers.x.command`: `/etc` is no program that can be executed: it is a folder",
        ),
        (
            format!(
                "[state]\nkey = {{ file = \"/etc\" }}\n{}",
                server("command = \"sh\"")
            ),
            "/etc is a folder; name the file with the key",
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
pub(crate) fn served(toml: &str) -> String {
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
    let dir = crate::support::open_folder().expect("a folder");
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
        let dir = crate::support::open_folder().expect("a folder");
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
    let dir = crate::support::open_folder().expect("a folder");
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
    let dir = crate::support::open_folder().expect("a folder");
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
