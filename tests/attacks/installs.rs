//! What an install script of npm's, and a build of PyPI's, tries when its package is installed: against other packages, tenants' data, the
//! state folder, stdiopool's own process, and what stdiopool does with what it has left behind.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::prober::is_root;
use super::support::registry::Registry;
use super::support::{BINARY, Stdiopool, open_folder};
use super::user::USER;

/// Errors by which attempts are denied, as Node and Python name them.
const DENIED: [&str; 11] = [
    "EACCES",
    "EPERM",
    "ENOENT",
    "EROFS",
    "EXDEV",
    "ESRCH",
    "Permission denied",
    "Operation not permitted",
    "No such file or directory",
    "Read-only file system",
    "No such process",
];

/// A stdiopool that serves a package which is installed already, with a worker of tenant `bob`; then it serves what tries.
struct World {
    registry: Registry,
    pool: Stdiopool,
    /// What is tried.
    tries: Value,
    user: Option<u32>,
}

fn keeper(registry: &Registry) -> String {
    format!(
        "[pool]\nqueue_timeout = \"120s\"\n[servers.keeper]\ncommand = \"npx\"\nargs = [\"-y\", \"keeper@1.0.0\"]\nstart_timeout = \"120s\"\nenv = {{ npm_config_registry = {:?}, KEY = \"${{secret.key}}\" }}\n[tenants.bob]\nsecrets.key = {{ file = \"bobs-key\" }}\n",
        registry.url
    )
}

fn start(dir: tempfile::TempDir, toml: &str, user: Option<u32>) -> Stdiopool {
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", toml);
    let config = dir.path().join("pool.toml").display().to_string();
    let args = ["--config".to_owned(), config];
    match user {
        Some(user) => Stdiopool::run_as(user, dir, &args),
        None => Stdiopool::run(dir, &args, &[("SUPERVISORS_OWN", "hunter22")]),
    }
}

impl World {
    async fn new(user: Option<u32>) -> Self {
        let registry = Registry::start();
        let dir = open_folder().expect("a folder");
        let key = dir.path().join("bobs-key");
        super::support::private_file(&key, "bobs-secret");
        for path in [dir.path(), &key] {
            std::os::unix::fs::chown(path, user, user).expect("given");
        }
        let pool = start(dir, &keeper(&registry), user);
        let bob = pool.client_of("bob", "keeper").connect().await;
        let done = bob.call("remember", json!({ "text": "bobs" })).await;
        assert!(done.text().contains("done"), "{done:?}");
        let mut world = Self {
            registry,
            pool,
            tries: Value::Null,
            user,
        };
        world.tries = world.everything();
        world
    }

    fn state(&self) -> PathBuf {
        let state = self.pool.dir.path().join("state").canonicalize();
        state.expect("there")
    }

    /// What is there, and must be out of reach.
    fn everything(&self) -> Value {
        let state = self.state();
        let packages = state.join("packages");
        let sibling = std::fs::read_dir(packages.join("_npx")).expect("there");
        let sibling = sibling.flatten().next().expect("installed").path();
        let data = state.join("data/bob");
        let read = [
            state.clone(),
            state.join("state.db"),
            data.clone(),
            data.join("keeper"),
            packages.join("refs"),
            packages.join("_npx"),
            packages.join("downloads/npm"),
            packages.join("home"),
            sibling.join("node_modules/keeper/index.js"),
            self.pool.dir.path().join("bobs-key"),
        ];
        for path in &read {
            assert!(path.exists(), "{} is there", path.display());
        }
        let mut read: Vec<_> = read.map(|path| path.display().to_string()).to_vec();
        if self.user.is_some() {
            // It is of the same user, and outside of the state folder.
            read.pop();
            // These are folders of its own with nothing in them but what leads to its entry.
            let leads = [state.clone(), packages.join("_npx")];
            read.retain(|path| !leads.iter().any(|it| it == Path::new(path)));
        }
        let write = [
            state.join("new"),
            data.join("keeper/new"),
            packages.join("_npx/new"),
            packages.join("refs/new.json"),
            packages.join("downloads/npm/new"),
            packages.join("home/.npmrc"),
            packages.join("locks/new"),
            sibling.join("node_modules/keeper/index.js"),
            sibling.join("node_modules/keeper/new.js"),
            // Open to everybody.
            self.pool.dir.path().join("new"),
        ];
        let pids = [self.pool.pid(), self.parent_of_workers()];
        for pid in pids {
            read.extend(["environ", "maps", "fd"].map(|file| format!("/proc/{pid}/{file}")));
        }
        let target = self.pool.dir.path().join("target");
        json!({ "read": read, "write": write, "signal": pids, "target": target })
    }

    fn parent_of_workers(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.pool.pid());
        let children = std::fs::read_to_string(children).expect("there");
        let name = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        let mut pids = children
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse().ok());
        let guardian = pids.find(|pid| name(pid).is_ok_and(|name| name.trim() == "sp-guardian"));
        guardian.expect("it has a guardian")
    }

    /// Serves what tries as well, in place of what was served; bob's worker runs again.
    async fn trying(&mut self, servers: &str) {
        let unused = tempfile::tempdir().expect("a folder");
        let dir = std::mem::replace(&mut self.pool.dir, unused);
        self.pool.terminate();
        let toml = |tries: &Value| {
            format!("{}{servers}", keeper(&self.registry))
                .replace("@TRY@", &tries.to_string())
                .replace("@URL@", &self.registry.url)
        };
        // Pids are known only once it runs: these are put in force by a reload.
        self.pool = start(dir, &toml(&self.tries), self.user);
        self.tries = self.everything();
        let text = toml(&self.tries);
        Stdiopool::write_config(self.pool.dir.path(), "[auth]\nmode = \"none\"\n", &text);
        self.pool.signal(nix::sys::signal::Signal::SIGHUP);
        let pool = &self.pool;
        super::support::until("the config is in force", || {
            pool.log().contains("reloaded:").then_some(())
        });
        let bob = self.pool.client_of("bob", "keeper").connect().await;
        let recalled = bob.call("recall", json!({})).await;
        assert!(recalled.text().contains("bobs"), "{recalled:?}");
    }

    /// What a package says of its install.
    async fn told(&self, server: &str) -> Value {
        let client = self.pool.client_of("anna", server).connect().await;
        let answer = client.call("tell", json!({})).await;
        let told = serde_json::from_str(answer.text());
        told.unwrap_or_else(|error| panic!("{error} in {answer:?}"))
    }

    /// All that was tried was denied.
    fn assert_denied(&self, told: &Value) {
        let went = told["went"].as_object().expect("what it tried");
        let hostile = |name: &str| {
            let first = name.split(' ').next();
            first.is_some_and(|first| ["read", "write", "signal", "link"].contains(&first))
        };
        let tried: Vec<_> = went.iter().filter(|(name, _)| hostile(name)).collect();
        assert!(tried.len() > 20, "{told}");
        for (name, how) in tried {
            let how = how.as_str().unwrap_or_default();
            assert!(DENIED.contains(&how), "{name}: {how}\n{}", self.pool.log());
        }
        for name in ["home", "tmp", "cache"] {
            let how = went[name].as_str().unwrap_or_default();
            assert!(how.starts_with("did"), "{name}: {how}");
        }
        let env = told["env"].as_object().expect("its environment");
        for name in ["SUPERVISORS_OWN", "KEY"] {
            assert!(!env.contains_key(name), "{env:?}");
        }
        for (name, value) in env {
            let value = value.as_str().unwrap_or_default();
            assert!(!value.contains("hunter22"), "{name}={value}");
        }
    }
}

fn is_left(user: &Value) -> bool {
    let found = std::fs::read_dir("/proc").expect("there").flatten();
    let lines = found.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
    let name = format!("left-by-an-install-of-{user}");
    lines.into_iter().any(|line| {
        line.split(|byte| *byte == 0)
            .any(|word| word == name.as_bytes())
    })
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let meta = path.symlink_metadata().expect("there");
    (meta.uid(), meta.mode() & 0o7777)
}

const TRYING: &str = r#"
[servers.trying]
command = "npx"
args = ["-y", "trying@1.0.0"]
start_timeout = "120s"
env = { npm_config_registry = "@URL@", "npm_config_//127.0.0.1/:_authToken" = "hunter22", TRY = '@TRY@' }
[servers.trying-py]
command = "uvx"
args = ["trying-py@1.0.0"]
start_timeout = "120s"
env = { UV_DEFAULT_INDEX = "@URL@/simple", TRY = '@TRY@' }
"#;

async fn what_runs_in_an_install_reaches_its_own_alone(user: Option<u32>) {
    let mut world = World::new(user).await;
    world.trying(TRYING).await;
    let log = world.pool.log();
    if user.is_some() && log.contains("without mount namespaces") {
        eprintln!("SKIPPED: no mount namespaces for other users than root here");
        return;
    }
    let mut users = vec![];
    for server in ["trying", "trying-py"] {
        let told = world.told(server).await;
        world.assert_denied(&told);
        users.push(told["user"].clone());
    }
    // Of another test's install, which runs beside this one, something may be there still.
    assert!(!users.iter().any(is_left), "what it started is ended");
    assert!(!world.pool.dir.path().join("target").exists());
    let supervisor = nix::unistd::geteuid().as_raw();
    match user {
        Some(user) => assert_eq!(users, [user, user]),
        None => assert!(users.iter().all(|it| *it != json!(supervisor)), "{users:?}"),
    }
    // Nobody else may write what it has left, and it is not run as its owner.
    let packages = world.state().join("packages");
    for entry in std::fs::read_dir(packages.join("_npx"))
        .expect("there")
        .flatten()
    {
        let own = entry.path().join("node_modules/trying/own");
        if own.exists() {
            let (owner, mode) = owner_and_mode(&own);
            assert_eq!((owner, mode), (user.unwrap_or(supervisor), 0o555));
        }
        for name in ["manifest.json", "entry.json"] {
            let kind = entry.path().join(name).symlink_metadata().expect("there");
            assert!(kind.is_file(), "{name} is stdiopool's");
        }
    }
    let log = world.pool.log();
    assert!(!log.contains("as written"), "{log}");
}

#[tokio::test]
async fn what_runs_in_an_install_reaches_its_own_entry_alone() {
    if is_root() {
        what_runs_in_an_install_reaches_its_own_alone(None).await;
    }
}

#[tokio::test]
async fn what_runs_in_a_plain_users_install_reaches_its_own_entry_alone() {
    if is_root() {
        what_runs_in_an_install_reaches_its_own_alone(Some(USER)).await;
    }
}

#[tokio::test]
async fn a_script_that_the_registry_does_not_tell_of_does_not_run() {
    let mut world = World::new(None).await;
    let untold = TRYING.replace("trying@", "untold@");
    world.trying(&untold).await;
    let told = world.told("trying").await;
    assert_eq!(told["went"], Value::Null, "{told}");
}

#[tokio::test]
async fn an_install_that_the_sandbox_stopped_says_so() {
    if !is_root() {
        return;
    }
    let registry = Registry::start();
    let dir = open_folder().expect("a folder");
    let denied = dir.path().join("made");
    let toml = format!(
        "[servers.denied]\ncommand = \"npx\"\nargs = [\"-y\", \"denied@1.0.0\"]\nstart_timeout = \"120s\"\nenv = {{ npm_config_registry = {:?}, DENIED = {denied:?} }}\n",
        registry.url
    );
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    let mut prefetch = assert_cmd::Command::new(BINARY);
    prefetch
        .args(["prefetch", "--config"])
        .arg(dir.path().join("pool.toml"));
    let failed = prefetch.assert().failure();
    // In lines of the terminal's width.
    let said = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    let said: String = said
        .split(|c: char| c.is_whitespace() || c == '│')
        .collect();
    for part in [
        "the install script of denied, `sh -c node try.js`",
        "installs run in a sandbox",
        "docs/sandbox.md#installs",
    ] {
        assert!(said.contains(&part.replace(' ', "")), "{part}: {said}");
    }
    assert!(!denied.exists());
}
