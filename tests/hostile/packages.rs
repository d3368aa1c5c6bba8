//! What a server writes beside its code is its tenant's: real npm, uv, node and Python, a registry on loopback, and made
//! packages that write there. As root where the tests are root's, and as a plain user.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::registry::Registry;
use crate::support::{Client, Stdiopool, eventually, until};

/// A user that owns nothing.
const NOBODY: u32 = 65_534;

/// The servers `npm` and `pypi`, whose packages have that version, with these lines added.
fn servers(registry: &Registry, version: &str, more: &str) -> String {
    let url = &registry.url;
    format!(
        r#"
[servers.npm]
command = "npx"
args = ["-y", "keeper@{version}"]
env = {{ npm_config_registry = "{url}" }}
start_timeout = "120s"
{more}
[servers.pypi]
command = "uvx"
args = ["keeper-py@{version}"]
env = {{ UV_DEFAULT_INDEX = "{url}/simple" }}
start_timeout = "120s"
{more}
"#
    )
}

/// Serves that config as `user`, or as who runs the tests.
pub(crate) fn serve(toml: &str, user: Option<u32>) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", toml);
    start(dir, user)
}

fn start(dir: tempfile::TempDir, user: Option<u32>) -> Stdiopool {
    let config = dir.path().join("pool.toml").display().to_string();
    let args = ["--config".to_owned(), config];
    match user {
        Some(user) => {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(user)).expect("given");
            Stdiopool::run_as(user, dir, &args)
        }
        None => Stdiopool::run(dir, &args, &[]),
    }
}

/// Ends a stdiopool and serves its folder anew with another config.
fn served_again(mut pool: Stdiopool, toml: &str, user: Option<u32>) -> Stdiopool {
    pool.signal(Signal::SIGTERM);
    pool.wait();
    let unused = crate::support::open_folder().expect("a folder");
    let dir = std::mem::replace(&mut pool.dir, unused);
    drop(pool);
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", toml);
    start(dir, user)
}

/// A session of a tenant at one of the servers.
pub(crate) struct Keeper(Client);

impl Keeper {
    pub(crate) async fn of(pool: &Stdiopool, tenant: &str, server: &str) -> Self {
        Self(pool.client_of(tenant, server).connect().await)
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        let answer = self.0.call(tool, arguments).await;
        serde_json::from_str(answer.text()).unwrap_or_else(|error| panic!("{error} in {answer:?}"))
    }

    async fn remember(&self, text: &str) {
        let done = self.call("remember", json!({ "text": text })).await;
        assert_eq!(done, "done", "it may write beside its code");
    }

    pub(crate) async fn recalls(&self, texts: &[&str]) {
        let recalled = self.call("recall", json!({})).await;
        assert_eq!(recalled, json!(texts));
    }

    /// Tries to write a file, and says how that went.
    async fn scribble(&self, path: &Path, text: &str) -> String {
        let arguments = json!({ "path": path, "text": text });
        let went = self.call("scribble", arguments).await;
        went.as_str().expect("a word").to_owned()
    }

    pub(crate) async fn about(&self) -> About {
        About(self.call("about", json!({})).await)
    }
}

/// What a server says of itself.
pub(crate) struct About(pub(crate) Value);

impl About {
    fn path(&self, name: &str) -> PathBuf {
        self.0[name].as_str().expect("a path").into()
    }

    fn env(&self, name: &str) -> PathBuf {
        let value = self.0["env"][name].as_str();
        value.unwrap_or_else(|| panic!("no {name}")).into()
    }
}

/// Two tenants write beside the code of a server; neither finds what the other wrote, each its own.
async fn each_finds_its_own(pool: &Stdiopool, server: &str, text: &str) {
    let anna = Keeper::of(pool, "anna", server).await;
    anna.remember(text).await;
    let bob = Keeper::of(pool, "bob", server).await;
    bob.recalls(&[]).await;
    bob.remember("bob's").await;
    anna.recalls(&[text]).await;
}

/// Nothing that all tenants run, or are installed from, can be written by a worker; its own caches can.
async fn what_is_shared_is_out_of_reach(pool: &Stdiopool, server: &str) {
    let anna = Keeper::of(pool, "anna", server).await;
    let about = anna.about().await;
    let state = pool.dir.path().join("state").canonicalize();
    let packages = state.expect("there").join("packages");
    let dependency = about.path("dependency");
    assert!(dependency.starts_with(&packages), "{dependency:?}");
    for path in [
        dependency.join("new"),
        packages.join("entries/new"),
        packages.join("_npx/new"),
        packages.join("downloads/new"),
        packages.join("home/.npmrc"),
        packages.join("refs/new.json"),
    ] {
        let went = anna.scribble(&path, "x").await;
        // What it does not run is not even there.
        assert!(
            ["EROFS", "ENOENT"].contains(&went.as_str()),
            "{path:?}: {went}"
        );
        assert!(!path.exists());
    }
    let own = pool
        .dir
        .path()
        .join("state/data/anna/.packages")
        .join(server);
    for variable in [
        "npm_config_cache",
        "UV_CACHE_DIR",
        "UV_TOOL_DIR",
        "UV_PYTHON_INSTALL_DIR",
    ] {
        let cache = about.env(variable);
        assert!(cache.starts_with(&own), "{variable} is {cache:?}");
    }
}

/// Everything that holds for one user, through a restart.
async fn what_is_written_is_the_tenants(user: Option<u32>) {
    let registry = Registry::start();
    let written =
        servers(&registry, "1.0.0", "launch = \"as-is\"").replace("[servers.", "[servers.written-");
    let toml = format!("{}{written}", servers(&registry, "1.0.0", ""));
    let pool = serve(&toml, user);
    let all = ["npm", "pypi", "written-npm", "written-pypi"];
    for server in all {
        each_finds_its_own(&pool, server, "anna's").await;
    }
    for server in ["npm", "pypi"] {
        what_is_shared_is_out_of_reach(&pool, server).await;
    }
    if let Some(user) = user {
        let anna = Keeper::of(&pool, "anna", "npm").await;
        assert_eq!(anna.about().await.0["uid"], user);
    }
    let pool = served_again(pool, &toml, user);
    for server in all {
        for (tenant, text) in [("anna", "anna's"), ("bob", "bob's")] {
            let keeper = Keeper::of(&pool, tenant, server).await;
            keeper.recalls(&[text]).await;
        }
    }
    assert!(!pool.log().contains("as written"), "{}", pool.log());
}

#[tokio::test]
async fn what_a_server_writes_beside_its_code_is_its_tenants() {
    what_is_written_is_the_tenants(None).await;
}

#[tokio::test]
async fn what_a_plain_users_server_writes_beside_its_code_is_its_tenants() {
    // Where the tests are not root's, the test above is this one.
    if nix::unistd::geteuid().is_root() {
        what_is_written_is_the_tenants(Some(NOBODY)).await;
    }
}

#[tokio::test]
async fn another_version_finds_what_was_written_or_it_is_said_to_be_put_aside() {
    let registry = Registry::start();
    let pool = serve(&servers(&registry, "1.0.0", ""), None);
    for server in ["npm", "pypi"] {
        let anna = Keeper::of(&pool, "anna", server).await;
        anna.remember("before").await;
        // The next version has another such file of its own.
        let settings = anna.about().await.path("code").join("settings.json");
        assert_eq!(anna.scribble(&settings, "mine").await, "done");
    }
    let pool = served_again(pool, &servers(&registry, "1.1.0", ""), None);
    for server in ["npm", "pypi"] {
        let anna = Keeper::of(&pool, "anna", server).await;
        let about = anna.about().await;
        assert_eq!(about.0["version"], "1.1.0");
        anna.recalls(&["before"]).await;
        let settings = fs::read_to_string(about.path("code").join("settings.json"));
        assert_eq!(settings.expect("there"), r#"{"of": "1.1.0"}"#);
        Keeper::of(&pool, "bob", server).await.recalls(&[]).await;
        let left = pool.dir.path().join("state/data/anna/.packages");
        let left = left.join(server).join("left-behind");
        let left = found_in(&left, "settings.json").expect("it was put aside");
        assert_eq!(fs::read(left).expect("there"), b"mine");
    }
    let log = pool.log();
    for said in [
        "was carried over to 1.1.0",
        "was put aside",
        "settings.json",
    ] {
        assert_eq!(log.matches(said).count(), 2, "{said}: {log}");
    }
}

#[tokio::test]
async fn a_reload_to_another_version_takes_over_what_was_just_written() {
    let registry = Registry::start();
    let pool = serve(&servers(&registry, "1.0.0", ""), None);
    let old = Keeper::of(&pool, "anna", "npm").await;
    let toml = servers(&registry, "1.1.0", "");
    Stdiopool::write_config(pool.dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    old.remember("just now").await;
    let reload = pool.command(&["reload"]).output().expect("runs");
    assert!(reload.status.success(), "{reload:?}");
    let new = Keeper::of(&pool, "anna", "npm").await;
    assert_eq!(new.about().await.0["version"], "1.1.0");
    new.recalls(&["just now"]).await;
    assert!(!pool.log().contains("still run"), "{}", pool.log());
}

/// A file of that name below a folder.
fn found_in(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(folder).ok()?.flatten() {
            if item.file_name() == name {
                return Some(item.path());
            }
            if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(item.path());
            }
        }
    }
    None
}

/// Writes into what is read-only, as someone who may do so.
fn damage(path: &Path, text: &str) {
    fs::set_permissions(path, Permissions::from_mode(0o644)).expect("set");
    fs::write(path, text).expect("written");
}

#[tokio::test]
async fn a_damaged_package_is_repaired_before_its_first_start_and_when_a_start_fails() {
    let registry = Registry::start();
    // A primed start has imported the dependency before that was damaged.
    let toml = servers(&registry, "1.0.0", "prime = \"off\"");
    let pool = serve(&toml, None);
    let mut damaged = Vec::new();
    for (server, file, evil) in [
        ("npm", "index.js", "throw new Error('evil');\n"),
        ("pypi", "__init__.py", "raise SystemExit('evil')\n"),
    ] {
        let about = Keeper::of(&pool, "anna", server).await.about().await;
        let path = about.path("dependency").join(file);
        let sound = fs::read_to_string(&path).expect("there");
        damaged.push((server, path, evil, sound));
    }
    // Before it is first used.
    for (_, path, evil, _) in &damaged {
        damage(path, evil);
    }
    let pool = served_again(pool, &toml, None);
    for (server, path, _, sound) in &damaged {
        Keeper::of(&pool, "bob", server).await.remember("x").await;
        assert_eq!(&fs::read_to_string(path).expect("there"), sound);
    }
    assert_eq!(
        pool.log().matches(" is damaged: ").count(),
        2,
        "{}",
        pool.log()
    );
    // While it is in use.
    for (server, path, evil, sound) in &damaged {
        damage(path, evil);
        let cleo = pool.client_of("cleo", server);
        let refused = cleo.try_initialize("2025-11-25", json!({})).await;
        assert_eq!(refused.reason(), "start_failed", "{refused:?}");
        until("it is repaired", || {
            let now = fs::read_to_string(path).ok();
            (now.as_ref() == Some(sound)).then_some(())
        });
        eventually("it starts again", async || {
            let answer = cleo.try_initialize("2025-11-25", json!({})).await;
            // A refusal has status 200, too.
            answer.response().get("result").is_some()
        })
        .await;
        let cleo = Keeper::of(&pool, "cleo", server).await;
        cleo.recalls(&[]).await;
    }
    assert_eq!(
        pool.log().matches(" is damaged: ").count(),
        4,
        "{}",
        pool.log()
    );
}

#[tokio::test]
async fn what_a_server_without_sandbox_has_changed_of_a_package_is_not_run() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let registry = Registry::start();
    let open = "[servers.open]\ncommand = \"true\"\nsandbox = \"none\"\n";
    let toml = format!("{}{open}", servers(&registry, "1.0.0", ""));
    let pool = serve(&toml, Some(NOBODY));
    for (server, file) in [("npm", "index.js"), ("pypi", "__init__.py")] {
        let about = Keeper::of(&pool, "anna", server).await.about().await;
        let path = about.path("dependency").join(file);
        let sound = fs::read_to_string(&path).expect("there");
        let ran = pool.dir.path().join(format!("ran-{server}"));
        let evil = match server {
            "npm" => format!("{sound}\nrequire('fs').writeFileSync({ran:?}, '');\n"),
            _ => format!("{sound}\nopen({ran:?}, 'w')\n"),
        };
        // As a process of stdiopool's own user does.
        damage(&path, &evil);
        let bob = pool.client_of("bob", server);
        let refused = bob.try_initialize("2025-11-25", json!({})).await;
        assert_eq!(refused.reason(), "start_failed", "{refused:?}");
        assert!(refused.message().contains("damaged"), "{refused:?}");
        eventually("it is installed again", async || {
            let answer = bob.try_initialize("2025-11-25", json!({})).await;
            // A refusal has status 200, too.
            answer.response().get("result").is_some()
        })
        .await;
        // The answer may be one that is remembered, and come before.
        eventually("it is as it was", async || {
            fs::read_to_string(&path).is_ok_and(|now| now == sound)
        })
        .await;
        assert!(!ran.exists(), "what was changed did not run");
    }
    let warned = "`servers.open.sandbox` is \"none\", and stdiopool is not root";
    assert!(pool.log().contains(warned), "{}", pool.log());
}

/// What a worker says of itself where a dependency counts beside its own code, for one user.
async fn dependencies_write_where_they_may(user: Option<u32>) {
    let registry = Registry::start();
    let named = "writable_dependencies = [\"keeper-dep\", \"Keeper_dep.py\"]";
    let plain = servers(&registry, "1.0.0", "").replace("[servers.", "[servers.plain-");
    let failing = servers(&registry, "1.0.0", "")
        .replace("[servers.", "[servers.failing-")
        .replace(" }\nstart", ", COUNT_AT_START = \"1\" }\nstart");
    let toml = format!("{}{plain}{failing}", servers(&registry, "1.0.0", named));
    let pool = serve(&toml, user);
    for (server, dependency) in [("npm", "keeper-dep"), ("pypi", "keeper_dep_py")] {
        let anna = Keeper::of(&pool, "anna", &format!("plain-{server}")).await;
        assert_eq!(anna.call("count", json!({})).await, "EROFS");
        let client = pool.client_of("anna", &format!("failing-{server}"));
        let refused = client.try_initialize("2025-11-25", json!({})).await;
        let said = refused.message();
        let told = format!("dependency `{dependency}` writes beside its own code");
        assert!(
            said.contains(&told) && said.contains("writable_dependencies"),
            "{said}"
        );
        for (tenant, count) in [("anna", 1), ("anna", 2), ("bob", 1)] {
            let keeper = Keeper::of(&pool, tenant, server).await;
            assert_eq!(
                keeper.call("count", json!({})).await,
                count,
                "{tenant} {server}"
            );
        }
    }
    let pool = served_again(pool, &toml, user);
    for server in ["npm", "pypi"] {
        let anna = Keeper::of(&pool, "anna", server).await;
        assert_eq!(anna.call("count", json!({})).await, 3);
    }
}

#[tokio::test]
async fn a_dependency_that_is_named_writes_beside_its_code_for_its_tenant() {
    dependencies_write_where_they_may(None).await;
}

#[tokio::test]
async fn a_plain_users_dependency_that_is_named_writes_beside_its_code_for_its_tenant() {
    if nix::unistd::geteuid().is_root() {
        dependencies_write_where_they_may(Some(NOBODY)).await;
    }
}

#[tokio::test]
async fn another_version_that_runs_as_written_is_told_not_to_have_what_was_written() {
    let registry = Registry::start();
    let as_is = "launch = \"as-is\"";
    let pool = serve(&servers(&registry, "1.0.0", as_is), None);
    for server in ["npm", "pypi"] {
        let anna = Keeper::of(&pool, "anna", server).await;
        anna.remember("before").await;
        let noted = pool.dir.path().join("state/data/anna/.packages");
        let noted = noted.join(server).join("as-written.json");
        until("its version is noted", || noted.exists().then_some(()));
    }
    let pool = served_again(pool, &servers(&registry, "1.1.0", as_is), None);
    for server in ["npm", "pypi"] {
        let anna = Keeper::of(&pool, "anna", server).await;
        assert_eq!(anna.about().await.0["version"], "1.1.0");
        anna.recalls(&[]).await;
        until("it is told", || {
            let told = pool
                .log()
                .matches("1.1.0 was run in place of 1.0.0")
                .count();
            (told == if server == "npm" { 1 } else { 2 }).then_some(())
        });
        let left = pool.dir.path().join("state/data/anna/.packages");
        let left = left.join(server).join("left-behind");
        let left = found_in(&left, "notes.json").expect("it is kept");
        assert_eq!(fs::read(left).expect("there"), br#"["before"]"#.as_slice());
    }
    let events = pool.command(&["events", "--since", "1h"]).output();
    let events = String::from_utf8_lossy(&events.expect("runs").stdout).into_owned();
    assert_eq!(events.matches("package_files_left").count(), 2, "{events}");
    let config = pool.dir.path().join("pool.toml");
    let doctor = pool
        .command(&["doctor", "--config"])
        .arg(config)
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(
        said.matches("1.1.0 was run in place of 1.0.0").count(),
        2,
        "{said}"
    );
}

/// Pythons that all tenants' servers may run on, for one user.
async fn pythons_are_only_read(user: Option<u32>) {
    let registry = Registry::start();
    let dir = crate::support::open_folder().expect("a folder");
    let pythons = dir.path().join(".local/share/uv/python");
    fs::create_dir_all(pythons.join("cpython-3.99")).expect("made");
    let program = pythons.join("cpython-3.99/python");
    fs::write(&program, "python").expect("written");
    let as_is =
        servers(&registry, "1.0.0", "launch = \"as-is\"").replace("[servers.", "[servers.written-");
    let toml = format!("{}{as_is}", servers(&registry, "1.0.0", ""));
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    if let Some(user) = user {
        for path in [
            ".local",
            ".local/share",
            ".local/share/uv",
            ".local/share/uv/python",
        ] {
            std::os::unix::fs::chown(dir.path().join(path), Some(user), Some(user)).expect("given");
        }
        for path in [program.as_path(), program.parent().expect("it has one")] {
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("given");
        }
    }
    let home = dir.path().display().to_string();
    let config = dir.path().join("pool.toml").display().to_string();
    let pool = match user {
        Some(_) => start(dir, user),
        None => Stdiopool::run(dir, &["--config".to_owned(), config], &[("HOME", &home)]),
    };
    for server in ["npm", "pypi", "written-pypi"] {
        let anna = Keeper::of(&pool, "anna", server).await;
        assert_eq!(anna.scribble(&program, "evil").await, "EROFS", "{server}");
        assert_eq!(anna.scribble(&pythons.join("new"), "evil").await, "EROFS");
        let own = pool
            .dir
            .path()
            .join("state/data/anna/.packages")
            .join(server);
        let env = anna.about().await.env("UV_PYTHON_INSTALL_DIR");
        assert!(env.starts_with(own), "{env:?}");
    }
    assert_eq!(fs::read(&program).expect("there"), b"python");
}

#[tokio::test]
async fn no_worker_writes_the_pythons_that_all_run_on() {
    pythons_are_only_read(None).await;
}

#[tokio::test]
async fn no_plain_users_worker_writes_the_pythons_that_all_run_on() {
    if nix::unistd::geteuid().is_root() {
        pythons_are_only_read(Some(NOBODY)).await;
    }
}
