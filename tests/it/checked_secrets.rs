//! What `check`, a start and a caller are told of secrets that are not there.

use serde_json::json;

use super::checked::{check_in, served};
use super::support::Stdiopool;

/// A server whose tool says with what it was started.
const CHOOSY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/choosy_server.py"
);

/// What a template has another value for is no mistake, and is served with that; what is there and cannot be had is one.
#[tokio::test]
async fn a_secret_that_is_not_set_is_what_its_template_says() {
    let server = |template: &str| {
        format!("[servers.x]\ncommand = \"python3\"\nargs = [\"{CHOOSY}\", \"{template}\"]\n")
    };
    let of_tenant = |source: &str| format!("[tenants.default]\nsecrets.k = {source}\n");
    for source in ["{ env = \"NOT_SET\" }", "{ env = \"EMPTY\" }"] {
        let toml = served(&(server("${secret.k:-other}") + &of_tenant(source)));
        let folder = tempfile::tempdir().expect("a folder");
        let (ok, said) = check_in(folder.path(), &toml, &[("EMPTY", "")]);
        assert!(
            ok && said.contains("warning: `tenants.default.secrets.k`: variable"),
            "{said}"
        );
        assert!(
            said.contains("templates that name it take their default"),
            "{said}"
        );
        let file = folder.path().join("pool.toml").display().to_string();
        let pool = Stdiopool::run(folder, &["--config".to_owned(), file], &[("EMPTY", "")]);
        let client = pool.client("x").connect().await;
        assert_eq!(client.call("value", json!({})).await.text(), "other");
        // Where one place has no default, it is missing.
        let needs = "[servers.y]\ncommand = \"cat\"\nenv = { K = \"${secret.k}\" }\n";
        let toml = format!("{toml}{needs}");
        let folder = tempfile::tempdir().expect("a folder");
        let (ok, said) = check_in(folder.path(), &toml, &[("EMPTY", "")]);
        assert!(
            !ok && said.contains("`tenants.default.secrets.k`: variable"),
            "{said}"
        );
    }
    for source in ["{ file = \"gone\" }", "{ command = [\"false\"] }"] {
        let folder = tempfile::tempdir().expect("a folder");
        let toml = served(&(server("${secret.k:-other}") + &of_tenant(source)));
        let (ok, said) = check_in(folder.path(), &toml, &[]);
        assert!(
            !ok && said.contains("`tenants.default.secrets.k`: "),
            "{said}"
        );
    }
}

/// What a command prints is looked at once, and never shown.
#[tokio::test]
async fn a_command_that_prints_no_secret_is_told() {
    let server =
        "[servers.x]\ncommand = \"cat\"\nenv = { K = \"${secret.k}\", L = \"${secret.l}\" }\n";
    for (command, told) in [
        ("[\"true\"]", "`true` printed what holds nothing"),
        (
            "[\"sh\", \"-c\", \"echo; echo; echo x >> ran\"]",
            "`sh` printed what holds nothing",
        ),
        (
            "[\"sh\", \"-c\", \"printf hunter; echo ter22; echo hunter22 is wrong >&2; exit 3\"]",
            "`sh` ended with exit status: 3",
        ),
    ] {
        let dir = tempfile::tempdir().expect("a folder");
        let toml = format!(
            "{server}[tenants.default.secrets]\nk = {{ command = {command} }}\nl = {{ command = {command} }}\n"
        );
        let (ok, said) = check_in(dir.path(), &served(&toml), &[]);
        assert!(!ok && said.contains("pool.toml: 2 mistakes"), "{said}");
        for name in ["k", "l"] {
            let line = format!("`tenants.default.secrets.{name}`: {told}");
            let line = said.lines().find(|it| it.contains(&line));
            assert!(
                line.is_some_and(|line| line.starts_with("pool.toml:")),
                "{said}"
            );
        }
        assert!(
            !said.contains("ter22") && !said.contains("is wrong"),
            "{said}"
        );
        if let Ok(ran) = std::fs::read_to_string(dir.path().join("ran")) {
            assert_eq!(ran, "x\n", "once for both");
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    let good = format!(
        "{server}[tenants.default.secrets]\nk = {{ command = [\"echo\", \"hunter22\"] }}\nl = {{ command = [\"echo\", \"hunter22\"] }}\n"
    );
    let (ok, said) = check_in(dir.path(), &served(&good), &[]);
    assert!(ok && !said.contains("hunter22"), "{said}");
    let key = format!(
        "[servers.x]\ncommand = \"cat\"\n{}",
        served("key = { command = [\"echo\", \"short\"] }\n")
    );
    let (ok, said) = check_in(dir.path(), &key, &[]);
    assert!(!ok && said.contains("`state.key`: "), "{said}");
}

/// A secret that is there and says nothing is no secret: `check` says so, and no server is started with it.
#[tokio::test]
async fn a_secret_that_holds_nothing_is_missing() {
    let dir = crate::support::open_folder().expect("a folder");
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
        let folder = crate::support::open_folder().expect("a folder");
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
