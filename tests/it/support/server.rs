//! Starts the binary under test and finds out where it listens.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, plain_http};
use super::{PATIENCE, processes};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_stdiopool");

/// A `[servers.NAME]` table that runs the built-in demo server; `more` is added to it.
pub(crate) fn demo(name: &str, more: &str) -> String {
    format!("[servers.{name}]\ncommand = \"{BINARY}\"\nargs = [\"demo-server\"]\n{more}\n")
}

/// A `[servers.NAME]` table that runs the server that misbehaves; `more` is added to it.
pub(crate) fn faulty(name: &str, args: &[&str], more: &str) -> String {
    let binary = env!("CARGO_BIN_EXE_faulty-server");
    format!("[servers.{name}]\ncommand = \"{binary}\"\nargs = {args:?}\n{more}\n")
}

/// A `[servers.NAME]` table that runs a fixture of the conformance suite: `initialize` or `stateless`,
/// by the way in which it begins.
pub(crate) fn fixture(name: &str, era: &str, more: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");
    format!("[servers.{name}]\ncommand = \"node\"\nargs = [\"{folder}/{era}.mjs\"]\n{more}\n")
}

/// Waits for a condition that must come true.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A temporary folder that is open to servers.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn open_folder() -> std::io::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    open_to_servers(folder.path());
    Ok(folder)
}

/// Lets servers, which run as other users where tests run as root, read what tests put into a folder, and leave marks in it.
pub(crate) fn open_to_servers(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(dir, mode).expect("it is the test's own");
}

/// A running `stdiopool serve`; dropping it ends it and checks that nothing is left behind.
pub(crate) struct Stdiopool {
    child: Child,
    pub(crate) url: String,
    pub(crate) admin: String,
    pub(crate) dir: TempDir,
    log: Arc<Mutex<String>>,
}

impl Stdiopool {
    /// Serves a config to which ports of the system's choice, auth `none` and a state folder are
    /// added. `toml` must not have `[http]`, `[admin]`, `[auth]` or `[state]` tables.
    pub(crate) fn serve(toml: &str) -> Self {
        Self::serve_with("[auth]\nmode = \"none\"\n", toml)
    }

    pub(crate) fn serve_with(auth: &str, toml: &str) -> Self {
        let dir = open_folder().expect("a temporary folder");
        Self::write_config(dir.path(), auth, toml);
        let config = dir.path().join("pool.toml");
        let args = ["--config".to_owned(), config.display().to_string()];
        Self::run(dir, &args, &[])
    }

    pub(crate) fn write_config(dir: &Path, auth: &str, toml: &str) {
        let mut text = String::new();
        writeln!(
            text,
            "[http]\nlisten = \"127.0.0.1:0\"\nmax_body = \"1MiB\""
        )
        .expect("in memory");
        writeln!(text, "[admin]\nlisten = \"127.0.0.1:0\"\n{auth}").expect("in memory");
        writeln!(text, "[state]\ndir = \"state\"\n{toml}").expect("in memory");
        std::fs::write(dir.join("pool.toml"), text).expect("pool.toml is written");
    }

    /// Runs `stdiopool serve ARGS`.
    pub(crate) fn run(dir: TempDir, args: &[String], env: &[(&str, &str)]) -> Self {
        Self::start(Command::new(BINARY), dir, args, env)
    }

    /// Runs `stdiopool serve ARGS` as another user, which the caller must be allowed to become, and whose `dir` is.
    pub(crate) fn run_as(user: u32, dir: TempDir, args: &[String]) -> Self {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(BINARY);
        command.uid(user).gid(user).env("HOME", dir.path());
        Self::start(command, dir, args, &[])
    }

    /// Runs that command with `serve ARGS` as its last arguments.
    pub(crate) fn start(
        mut command: Command,
        dir: TempDir,
        args: &[String],
        env: &[(&str, &str)],
    ) -> Self {
        open_to_servers(dir.path());
        #[allow(clippy::disallowed_methods, reason = "the program under test")]
        let mut child = command
            .arg("serve")
            .args(args)
            .envs(env.iter().copied())
            .env("NO_COLOR", "1")
            .env("XDG_RUNTIME_DIR", dir.path())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let stderr = child.stderr.take().expect("piped");
        let log = Arc::new(Mutex::new(String::new()));
        let (tell, addresses) = mpsc::channel();
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                for what in ["MCP at ", "admin at "] {
                    if let Some((_, url)) = line.split_once(what) {
                        let url = url.split_whitespace().next().unwrap_or_default();
                        let _gone = tell.send((what, url.to_owned()));
                    }
                }
                let mut log = kept.lock().expect("not poisoned");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (mut url, mut admin) = (String::new(), String::new());
        for _ in 0..2 {
            match addresses.recv_timeout(PATIENCE) {
                Ok(("MCP at ", found)) => url = base(&found),
                Ok((_, found)) => admin = base(&found),
                Err(_) => {
                    let _killed = child.kill();
                    let status = child.wait();
                    panic!(
                        "it never said where it listens ({status:?}):\n{}",
                        log.lock().expect("not poisoned")
                    );
                }
            }
        }
        Self {
            child,
            url,
            admin,
            dir,
            log,
        }
    }

    /// Ends it with that signal and serves the same folder again.
    pub(crate) fn restarted_after(mut self, signal: nix::sys::signal::Signal) -> Self {
        self.signal(signal);
        self.wait();
        self.started_again()
    }

    /// Serves the folder of one that has ended.
    pub(crate) fn started_again(mut self) -> Self {
        let unused = tempfile::tempdir().expect("a temporary folder");
        let dir = std::mem::replace(&mut self.dir, unused);
        drop(self);
        let config = dir.path().join("pool.toml").display().to_string();
        Self::run(dir, &["--config".to_owned(), config], &[])
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    /// A client of that server, of the default tenant.
    pub(crate) fn client(&self, server: &str) -> Client {
        Client::new(format!("{}/{server}/mcp", self.url))
    }

    /// A client of that tenant and server.
    pub(crate) fn client_of(&self, tenant: &str, server: &str) -> Client {
        Client::new(format!("{}/t/{tenant}/{server}/mcp", self.url))
    }

    pub(crate) async fn admin_json(&self, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", self.admin);
        let response = plain_http().get(url).send().await;
        let response = response.expect("the admin listener answers");
        response.json().await.expect("JSON")
    }

    pub(crate) async fn metrics(&self) -> String {
        let response = plain_http().get(format!("{}/metrics", self.admin));
        let response = response.send().await;
        response.expect("answers").text().await.expect("text")
    }

    /// The value of a series, given as `name{labels}`; 0 when it is not there.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let text = self.metrics().await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().expect("a number"))
    }

    pub(crate) async fn workers(&self) -> Vec<Value> {
        let workers = self.admin_json("workers").await;
        workers.as_array().cloned().unwrap_or_default()
    }

    /// Runs another command of the binary, with the addresses of this one.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .env("STDIOPOOL_ADMIN", &self.admin)
            .env("NO_COLOR", "1");
        command
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("fits"));
        nix::sys::signal::kill(pid, signal).expect("it is there");
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("stdiopool ends", || {
            self.child.try_wait().expect("waitable")
        })
    }
}

fn base(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    format!("{scheme}://{}", rest.split('/').next().unwrap_or_default())
}

impl Drop for Stdiopool {
    fn drop(&mut self) {
        let tree = processes::in_tree_of(self.child.id());
        let _already_gone = self.child.kill();
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of stdiopool\n{}", self.log());
        } else {
            processes::until_gone(&tree);
        }
    }
}
