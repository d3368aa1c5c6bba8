//! Two tenants with a server that tries what it is told, and a secret each.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::{Client, Stdiopool, private_file};

/// Names of errors (errno(3)) by which attempts are denied: EPERM, ENOENT, EACCES, EBUSY, EXDEV, EROFS, ECONNREFUSED.
const DENIED: [i64; 7] = [1, 2, 13, 16, 18, 30, 111];

/// Whether this process is root: only then have tenants users of their own. Says so where it is not.
pub(crate) fn is_root() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED: tenants have users of their own only where tests run as root");
    }
    is_root
}

/// `[servers.NAME]` with the prober; `more` is added to it.
pub(crate) fn prober(name: &str, more: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/prober.py");
    format!("[servers.{name}]\ncommand = \"python3\"\nargs = [{script:?}]\n{more}\n")
}

/// Servers `probe` of tenants `anna`, who attacks, and `bob`, whose secret is `bobs-secret`.
pub(crate) struct World {
    pub(crate) pool: Stdiopool,
    pub(crate) anna: Client,
    pub(crate) bob: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with("").await
    }

    /// With more keys of the server.
    pub(crate) async fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self::in_folder(dir, more, Stdiopool::run).await
    }

    /// In a folder, with more keys of the server, served in that way.
    pub(crate) async fn in_folder(
        dir: tempfile::TempDir,
        more: &str,
        run: impl FnOnce(tempfile::TempDir, &[String], &[(&str, &str)]) -> Stdiopool,
    ) -> Self {
        for tenant in ["anna", "bob"] {
            let secret = format!("{tenant}s-secret");
            let path = dir.path().join(tenant);
            private_file(&path, secret);
            let meta = std::os::unix::fs::MetadataExt::uid(&dir.path().metadata().expect("there"));
            std::os::unix::fs::chown(&path, Some(meta), Some(meta)).expect("given");
        }
        let secret = |tenant: &str| {
            let file = dir.path().join(tenant);
            format!("[tenants.{tenant}]\nsecrets.key = {{ file = {file:?} }}\n")
        };
        let env = "env = { KEY = \"${secret.key}\", KEY_FILE = \"${secret.key | file}\" }";
        let toml = prober("probe", &format!("{env}\n{more}")) + &secret("anna") + &secret("bob");
        Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
        let config = dir.path().join("pool.toml").display().to_string();
        let pool = run(dir, &["--config".to_owned(), config], &[]);
        let anna = pool.client_of("anna", "probe").connect().await;
        let bob = pool.client_of("bob", "probe").connect().await;
        let secret = told(&bob, "result = os.environ['KEY']").await;
        assert_eq!(secret, "bobs-secret");
        let own = told(&anna, "result = open(os.environ['KEY_FILE']).read()").await;
        assert_eq!(own, "annas-secret", "its own file of a secret is there");
        Self { pool, anna, bob }
    }

    /// The state folder.
    pub(crate) fn state(&self) -> PathBuf {
        let dir = self.pool.dir.path().join("state");
        dir.canonicalize().expect("there")
    }
}

/// What code sets as its `result`; it must not fail.
pub(crate) async fn told(client: &Client, code: &str) -> Value {
    let said = attempt(client, code).await;
    said.get("ok")
        .unwrap_or_else(|| panic!("{code}: {said}"))
        .clone()
}

/// What comes of code: `ok` with its result, or `errno`.
pub(crate) async fn attempt(client: &Client, code: &str) -> Value {
    let answer = client.call("try", json!({ "code": code })).await;
    serde_json::from_str(answer.text()).expect("JSON")
}

/// Code that the isolation must not let succeed.
pub(crate) async fn assert_denied(client: &Client, code: &str) {
    let said = attempt(client, code).await;
    let errno = said["errno"].as_i64();
    assert!(
        errno.is_some_and(|errno| DENIED.contains(&errno)),
        "{code}: {said}"
    );
}

/// A path as Python writes it.
pub(crate) fn quoted(path: &Path) -> String {
    json!(path.display().to_string()).to_string()
}

/// The user that a process runs as.
pub(crate) fn user_of(pid: u64) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find(|line| line.starts_with("Uid:"));
    let mut fields = line.expect("said").split_ascii_whitespace().skip(1);
    let user = fields.next().expect("a number").parse().expect("a number");
    assert!(fields.all(|field| field == user_text(user)), "{status}");
    user
}

fn user_text(user: u32) -> String {
    user.to_string()
}
