//! What an install script of npm's, a build of PyPI's, one of a repository of git and npm itself try when a package is installed: against other
//! packages, tenants' data, the state folder, stdiopool's own process, and what stdiopool does with what they have left behind.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    host: Host,
    /// Variables of stdiopool's own.
    env: Vec<(&'static str, String)>,
}

/// As whom stdiopool runs, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
    Root,
    User(u32),
    /// One user without any other, where nothing can be mounted.
    WithoutMounts,
    /// Root, where the kernel has no Landlock and no control groups can be made.
    Bare,
}

impl Host {
    fn user(self) -> Option<u32> {
        match self {
            Self::User(user) => Some(user),
            Self::Root | Self::WithoutMounts | Self::Bare => None,
        }
    }

    /// stdiopool on that host.
    fn command(self, dir: &Path) -> Command {
        use std::os::unix::process::CommandExt;
        /// No namespace of users can be made, and none of mounts without that right.
        const NO_MOUNTS: &str = "echo 0 > /proc/sys/user/max_user_namespaces || exit
exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\"";
        const NO_GROUPS: &str = "mount -t tmpfs none /sys/fs/cgroup || exit
exec python3 -c \"$@\"";
        /// To landlock_create_ruleset(2), which has one number everywhere, is answered that there is no such call.
        const NO_LANDLOCK: &str = "
import ctypes, os, struct, sys
NUMBER, ENOSYS, ERRNO, ALLOW = 444, 38, 0x00050000, 0x7FFF0000
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
lines = [(0x20, 0, 0, 0), (0x15, 0, 1, NUMBER), (0x06, 0, 0, ERRNO | ENOSYS), (0x06, 0, 0, ALLOW)]
text = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *line) for line in lines))
program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(lines), ctypes.addressof(text)))
address = ctypes.c_ulong(ctypes.addressof(program))
if ctypes.CDLL(None).prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), address, 0, 0):
    sys.exit('no filter')
os.execv(sys.argv[1], sys.argv[1:])
";
        match self {
            Self::Root => Command::new(BINARY),
            Self::User(user) => {
                let mut command = Command::new(BINARY);
                command.uid(user).gid(user).env("HOME", dir);
                command
            }
            Self::WithoutMounts => {
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "sh", "-c", NO_MOUNTS, "sh"]);
                command.arg(BINARY);
                command
            }
            Self::Bare => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", NO_GROUPS, "sh", NO_LANDLOCK]);
                command.arg(BINARY);
                command
            }
        }
    }
}

fn keeper(registry: &Registry) -> String {
    format!(
        "[pool]\nqueue_timeout = \"120s\"\n[servers.keeper]\ncommand = \"npx\"\nargs = [\"-y\", \"keeper@1.0.0\"]\nstart_timeout = \"120s\"\nenv = {{ npm_config_registry = {:?}, KEY = \"${{secret.key}}\" }}\n[tenants.bob]\nsecrets.key = {{ file = \"bobs-key\" }}\n",
        registry.url
    )
}

fn start(
    dir: tempfile::TempDir,
    toml: &str,
    host: Host,
    env: &[(&'static str, String)],
) -> Stdiopool {
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", toml);
    let config = dir.path().join("pool.toml").display().to_string();
    let args = ["--config".to_owned(), config];
    let own = ("SUPERVISORS_OWN", "hunter22");
    let env = env.iter().map(|(name, value)| (*name, value.as_str()));
    let env: Vec<_> = env.chain([own]).collect();
    let command = host.command(dir.path());
    Stdiopool::start(command, dir, &args, &env)
}

impl World {
    async fn new(host: Host) -> Self {
        Self::with(Registry::start(), host, vec![]).await
    }

    async fn with(registry: Registry, host: Host, env: Vec<(&'static str, String)>) -> Self {
        let user = host.user();
        let dir = open_folder().expect("a folder");
        let key = dir.path().join("bobs-key");
        super::support::private_file(&key, "bobs-secret");
        for path in [dir.path(), &key] {
            std::os::unix::fs::chown(path, user, user).expect("given");
        }
        let pool = start(dir, &keeper(&registry), host, &env);
        let bob = pool.client_of("bob", "keeper").connect().await;
        let done = bob.call("remember", json!({ "text": "bobs" })).await;
        assert!(done.text().contains("done"), "{done:?}");
        let mut world = Self {
            registry,
            pool,
            tries: Value::Null,
            host,
            env,
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
        if self.host != Host::Root {
            // It is of the same user, and outside of the state folder.
            read.pop();
            // These are folders of its own with nothing in them but what leads to its entry.
            let leads = [state.clone(), packages.join("_npx")];
            read.retain(|path| !leads.iter().any(|it| it == Path::new(path)));
        }
        if self.host == Host::WithoutMounts {
            // Names are seen.
            read.retain(|path| Path::new(path).is_file());
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
            read.extend(["environ", "maps", "fd/0"].map(|file| format!("/proc/{pid}/{file}")));
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
        self.pool = start(dir, &toml(&self.tries), self.host, &self.env);
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
        assert!(tried.len() > 15, "{told}");
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

async fn what_runs_in_an_install_reaches_its_own_alone(host: Host) {
    let user = host.user();
    let mut world = World::new(host).await;
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
    match host {
        Host::User(user) => assert_eq!(users, [user, user]),
        // There is no other, by that user's own namespace.
        Host::WithoutMounts => assert_eq!(users, [0, 0]),
        Host::Root | Host::Bare => {
            assert!(users.iter().all(|it| *it != json!(supervisor)), "{users:?}")
        }
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
        what_runs_in_an_install_reaches_its_own_alone(Host::Root).await;
    }
}

#[tokio::test]
async fn what_runs_in_a_plain_users_install_reaches_its_own_entry_alone() {
    if is_root() {
        what_runs_in_an_install_reaches_its_own_alone(Host::User(USER)).await;
    }
}

#[tokio::test]
async fn what_runs_in_an_install_reads_nothing_of_others_where_nothing_can_be_mounted() {
    if is_root() {
        what_runs_in_an_install_reaches_its_own_alone(Host::WithoutMounts).await;
    }
}

/// A repository of git with a package that npm builds when it fetches it.
fn git_repository() -> tempfile::TempDir {
    let dir = open_folder().expect("a folder");
    let trying = include_str!("../fixtures/registry/trying.js");
    let manifest =
        json!({ "name": "of-git", "version": "1.0.0", "scripts": { "prepare": "node try.js" } });
    std::fs::write(dir.path().join("try.js"), trying).expect("written");
    std::fs::write(dir.path().join("package.json"), manifest.to_string()).expect("written");
    for args in [
        &["init", "--quiet"][..],
        &["add", "."],
        &["commit", "--quiet", "-m", "x"],
        // For clients that only read files.
        &["update-server-info"],
    ] {
        #[allow(clippy::disallowed_methods, reason = "a fixture")]
        let done = Command::new("git")
            .args(["-c", "user.name=x", "-c", "user.email=x@example.com"])
            .args(args)
            .current_dir(dir.path())
            .status();
        assert!(done.expect("there is a git").success(), "{args:?}");
    }
    dir
}

#[tokio::test]
async fn what_npm_builds_from_git_reaches_its_own_entry_alone() {
    if !is_root() {
        return;
    }
    let git = git_repository();
    let registry = Registry::start_with(&[("REGISTRY_GIT", git.path())]);
    let mut world = World::with(registry, Host::Root, vec![]).await;
    let toml = TRYING.replace("trying@", "gitting@");
    // What comes from git is fetched where it is built, so that its build sees what registries know the operator by.
    let token = r#""npm_config_//127.0.0.1/:_authToken" = "hunter22", "#;
    let toml = toml.replace(token, "");
    world.trying(&toml).await;
    let told = world.told("trying").await;
    world.assert_denied(&told);
    let supervisor = nix::unistd::geteuid().as_raw();
    assert_ne!(told["user"], json!(supervisor));
    assert!(!is_left(&told["user"]), "what it started is ended");
    let log = world.pool.log();
    assert!(!log.contains("as written"), "{log}");
}

/// An npm that tries what the variable TRY names before it does its work, and notes in its cache what came of it.
fn trying_npm() -> tempfile::TempDir {
    const TRY: &str = r#"
const fs = require("fs");
const tries = JSON.parse(process.env.TRY || '{"read":[],"write":[],"signal":[]}');
const went = {};
const attempt = (name, act) => {
  try { went[name] = `did ${act() ?? ""}`; } catch (error) { went[name] = error.code ?? String(error); }
};
for (const at of tries.read) {
  attempt(`read ${at}`, () => (fs.statSync(at).isDirectory() ? fs.readdirSync(at).join(" ") : fs.readFileSync(at).length));
}
for (const at of tries.write) attempt(`write ${at}`, () => fs.appendFileSync(at, "planted"));
for (const pid of tries.signal) attempt(`signal ${pid}`, () => process.kill(pid, 0));
for (const [name, folder] of [["home", process.env.HOME], ["tmp", process.env.TMPDIR], ["cache", process.env.npm_config_cache]]) {
  attempt(name, () => fs.writeFileSync(`${folder}/own`, ""));
}
const status = fs.readFileSync("/proc/self/status", "utf8");
const told = { went, env: process.env, user: process.getuid(), argv: process.argv.slice(2), capabilities: /CapEff:\s*(\w+)/.exec(status)[1] };
const folder = `${process.env.npm_config_cache}/told`;
fs.mkdirSync(folder, { recursive: true });
fs.writeFileSync(`${folder}/${process.pid}-${Date.now()}.json`, JSON.stringify(told));
"#;
    use std::os::unix::fs::PermissionsExt;
    let dir = open_folder().expect("a folder");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let npm = std::env::split_paths(&path).map(|folder| folder.join("npm"));
    let npm = npm
        .into_iter()
        .find(|npm| npm.is_file())
        .expect("there is an npm");
    let script = format!(
        "#!/bin/sh\nnode '{}/try.js' \"$@\" || exit\nexec '{}' \"$@\"\n",
        dir.path().display(),
        npm.display()
    );
    std::fs::write(dir.path().join("try.js"), TRY).expect("written");
    let npm = dir.path().join("npm");
    std::fs::write(&npm, script).expect("written");
    std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("set");
    dir
}

const FETCHED: &str = r#"
[servers.fetched]
command = "npx"
args = ["-y", "aged@1.0.0"]
start_timeout = "120s"
env = { npm_config_registry = "@URL@", TRY = '@TRY@' }
"#;

async fn what_fetches_packages_writes_to_its_own_folders_alone(host: Host) {
    let npm = trying_npm();
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", npm.path().display());
    let mut world = World::with(Registry::start(), host, vec![("PATH", path)]).await;
    world.trying(FETCHED).await;
    let log = world.pool.log();
    if host.user().is_some() && log.contains("without mount namespaces") {
        eprintln!("SKIPPED: no mount namespaces for other users than root here");
        return;
    }
    world.told("fetched").await;
    let packages = world.state().join("packages");
    let own = ["downloads/npm", "home", "home/.npmrc", "downloads/npm/new"];
    let own = own.map(|path| packages.join(path).display().to_string());
    let key = world.pool.dir.path().join("bobs-key").display().to_string();
    // Of the user that it runs as, outside of the state folder.
    let is_own = |name: &str| {
        let path = name.split(' ').nth(1);
        path.is_some_and(|path| path == key || own.iter().any(|own| own == path))
    };
    let leads =
        [world.state(), packages.join("_npx")].map(|path| format!("read {}", path.display()));
    let mut seen = vec![];
    for told in std::fs::read_dir(packages.join("downloads/npm/told")).expect("there") {
        let told = std::fs::read(told.expect("there").path()).expect("there");
        let mut told: Value = serde_json::from_slice(&told).expect("JSON");
        let went = told["went"].as_object_mut().expect("what it tried");
        if went.len() < 10 {
            // Of the package that was there before.
            continue;
        }
        // Folders of its own with nothing in them but what leads to its own.
        went.retain(|name, _| !is_own(name) && !leads.contains(name));
        world.assert_denied(&told);
        seen.push(told["argv"][0].as_str().unwrap_or_default().to_owned());
        if host == Host::Root {
            // CAP_DAC_OVERRIDE alone.
            assert_eq!(told["capabilities"], json!("0000000000000002"), "{told}");
        }
    }
    for step in ["config", "root", "install", "ci"] {
        assert!(seen.iter().any(|seen| seen == step), "{step}: {seen:?}");
    }
}

#[tokio::test]
async fn what_fetches_packages_writes_to_its_own_folders() {
    if is_root() {
        what_fetches_packages_writes_to_its_own_folders_alone(Host::Root).await;
    }
}

#[tokio::test]
async fn what_fetches_packages_of_a_plain_user_writes_to_its_own_folders() {
    if is_root() {
        what_fetches_packages_writes_to_its_own_folders_alone(Host::User(USER)).await;
    }
}

#[tokio::test]
async fn installs_go_on_where_the_kernel_lacks_what_keeps_them_apart_and_that_is_said_once() {
    if !is_root() {
        return;
    }
    let mut world = World::new(Host::Bare).await;
    let scripted = FETCHED.replace("fetched", "scripted");
    let scripted = scripted.replace("aged@1.0.0", "needing");
    world.trying(&(FETCHED.to_owned() + &scripted)).await;
    for server in ["fetched", "scripted"] {
        assert_eq!(world.told(server).await["version"], "1.0.0");
    }
    let log = world.pool.log();
    assert_eq!(log.matches("run without Landlock").count(), 1, "{log}");
    assert!(!log.contains("as written"), "{log}");
}

#[tokio::test]
async fn a_script_that_the_registry_does_not_tell_of_does_not_run() {
    let mut world = World::new(Host::Root).await;
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
