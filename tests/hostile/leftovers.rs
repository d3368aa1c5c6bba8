//! The service starts and stops, whatever was left in its folders and whoever reads its log.

use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::beside::Beside;
use crate::support::{BINARY, Client, Stdiopool, demo, until};

/// Makes `depth` folders in each other; the path of the last is longer than a path may be.
fn nest(root: &Path, depth: u32) {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = open(root, flags, Mode::empty()).expect("opens");
    for _ in 0..depth {
        mkdirat(at.as_fd(), "d", Mode::S_IRWXU).expect("made");
        at = openat(at.as_fd(), "d", flags, Mode::empty()).expect("opens");
    }
}

fn give_to(user: u32, path: &Path) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).expect("given");
}

fn trash_in(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("there").flatten();
    let is_trash = |name: &str| name.starts_with(".trash-");
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_trash))
        .count()
}

#[tokio::test]
async fn what_workers_left_in_their_folders_does_not_stop_the_next_start() {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    let state = dir.path().join("state");
    let (tmp, outside) = (state.join("tmp"), dir.path().join("outside"));
    std::fs::create_dir_all(tmp.join("acme/good/deep")).expect("made");
    std::fs::create_dir_all(tmp.join("acme/good/closed/inner")).expect("made");
    std::fs::create_dir_all(state.join("packages/tmp/left/node_modules")).expect("made");
    std::fs::create_dir(&outside).expect("made");
    std::fs::write(outside.join("kept"), "mine").expect("written");
    symlink(&outside, tmp.join("acme/good/link")).expect("made");
    nix::unistd::mkfifo(&tmp.join("acme/good/pipe"), Mode::S_IRWXU).expect("made");
    drop(std::os::unix::net::UnixListener::bind(tmp.join("acme/socket")).expect("made"));
    std::fs::create_dir(state.join("lock")).expect("made, in place of the file");
    nest(&tmp.join("acme/good/deep"), 30_000);
    let config = dir.path().join("pool.toml").display().to_string();
    let args = ["--config".to_owned(), config];
    // To root, no permission is missing.
    let user = nix::unistd::geteuid().is_root().then_some(65_534);
    if let Some(user) = user {
        let mut at = tmp.join("acme/good/closed/inner");
        while at.starts_with(dir.path()) {
            give_to(user, &at);
            at = at.parent().expect("below the root").to_owned();
        }
        for path in ["acme/good/deep", "acme/good/pipe", "acme/socket"] {
            give_to(user, &tmp.join(path));
        }
        for path in ["packages", "packages/tmp", "packages/tmp/left", "lock"] {
            give_to(user, &state.join(path));
        }
        give_to(user, &state.join("packages/tmp/left/node_modules"));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at = open(&tmp.join("acme/good/deep"), flags, Mode::empty()).expect("opens");
        for _ in 0..30_000 {
            let flag = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
            let (uid, gid) = (user.into(), user.into());
            nix::unistd::fchownat(at.as_fd(), "d", Some(uid), Some(gid), flag).expect("given");
            at = openat(at.as_fd(), "d", flags, Mode::empty()).expect("opens");
        }
    }
    for path in ["acme/good/closed/inner", "acme/good/closed", "acme", ""] {
        let closed = std::fs::Permissions::from_mode(0o000);
        std::fs::set_permissions(tmp.join(path), closed).expect("set");
    }
    let mut pool = match user {
        Some(user) => Stdiopool::run_as(user, dir, &args),
        None => Stdiopool::run(dir, &args, &[]),
    };
    Beside::open(&pool, "acme", "good").await.goes_on(2).await;
    let state = pool.dir.path().join("state");
    until("the leftovers are gone", || {
        let left = trash_in(&state) + trash_in(&state.join("packages/tmp"));
        (left == 0).then_some(())
    });
    assert!(!state.join("packages/tmp/left").exists());
    assert_eq!(
        pool.metric("stdiopool_folder_removals_failed_total").await,
        0.0
    );
    let kept = std::fs::read(pool.dir.path().join("outside/kept"));
    assert_eq!(kept.expect("there"), b"mine");
    assert!(pool.terminate().success());
}

/// Tries to serve the folder of one that runs.
fn second(pool: &Stdiopool) -> String {
    let output = Command::new(BINARY)
        .args(["serve", "--config", "pool.toml"])
        .current_dir(pool.dir.path())
        .output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[tokio::test]
async fn whatever_is_deleted_in_the_state_folder_a_second_start_is_refused() {
    let mut pool = Stdiopool::serve(&demo("good", ""));
    let pid = format!("pid {}", pool.pid());
    assert!(second(&pool).contains(&pid));
    let state = pool.dir.path().join("state");
    std::fs::remove_file(state.join("lock")).expect("deleted");
    let said = second(&pool);
    assert!(said.contains("is in use by another stdiopool"), "{said}");
    for entry in std::fs::read_dir(&state).expect("there").flatten() {
        let path = entry.path();
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
        removed.expect("deleted");
    }
    let said = second(&pool);
    assert!(said.contains("is in use by another stdiopool"), "{said}");
    assert!(pool.terminate().success());
}

/// Serves with that stderr, on ports that were free a moment ago; returns where.
fn serve_to(dir: &Path, stderr: Stdio) -> (Child, [u16; 2]) {
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("has one").port()
    };
    let ports = [free(), free()];
    #[allow(clippy::disallowed_methods, reason = "the program under test")]
    let child = Command::new(BINARY)
        .arg("serve")
        .args(["--http", &format!("127.0.0.1:{}", ports[0])])
        .args(["--admin", &format!("127.0.0.1:{}", ports[1])])
        // Enough lines that a pipe is full of them soon.
        .env("STDIOPOOL_LOG", "trace")
        .env("XDG_RUNTIME_DIR", dir)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the binary runs");
    (child, ports)
}

/// Calls until so many lines of the log are lost, then asks it to end.
async fn is_used_and_ends(mut child: Child, ports: [u16; 2], are_dropped: bool) {
    let url = format!("http://127.0.0.1:{}/good/mcp", ports[0]);
    until("it listens", || {
        std::net::TcpStream::connect(("127.0.0.1", ports[0])).ok()
    });
    let beside = Client::new(url).connect().await;
    let mut lost = 0.0;
    for round in 0..2_000 {
        let said = format!("round {round}");
        let answer = beside
            .call("echo", serde_json::json!({ "message": said }))
            .await;
        assert_eq!(answer.text(), said);
        if round % 100 == 99 {
            let metrics = reqwest::get(format!("http://127.0.0.1:{}/metrics", ports[1])).await;
            let metrics = metrics.expect("answers").text().await.expect("text");
            let series = "stdiopool_log_lines_dropped_total ";
            let value = metrics.lines().find_map(|line| line.strip_prefix(series));
            lost = value.expect("is there").parse::<f64>().expect("a number");
            if lost > 0.0 || !are_dropped {
                break;
            }
        }
    }
    assert!(!are_dropped || lost > 0.0, "no line was ever dropped");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("fits"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is there");
    let status = until("it ends", || child.try_wait().expect("waitable"));
    assert!(status.success(), "{status}");
}

fn configured() -> tempfile::TempDir {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("good", ""));
    dir
}

/// A pipe that takes nothing more; its reader, and its writer, which blocks.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut fill = writer.try_clone().expect("a second one");
    nix::fcntl::fcntl(&fill, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
    while std::io::Write::write(&mut fill, &[b'x'; 4096]).is_ok() {}
    nix::fcntl::fcntl(&fill, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).expect("set");
    (reader, writer)
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let dir = configured();
    let (_unread, full) = full_pipe();
    let (child, ports) = serve_to(dir.path(), full.into());
    is_used_and_ends(child, ports, false).await;
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_stops_nothing() {
    let dir = configured();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let (child, ports) = serve_to(dir.path(), writer.into());
    is_used_and_ends(child, ports, true).await;
}

#[tokio::test]
async fn a_start_that_fails_ends_though_nobody_reads_why() {
    let dir = configured();
    std::fs::write(dir.path().join("pool.toml"), "[pool]\nmax_wrokers = 1\n").expect("written");
    // As two starts that failed before it would.
    let (_unread, full) = full_pipe();
    let (mut child, _) = serve_to(dir.path(), full.into());
    let status = until("it ends", || child.try_wait().expect("waitable"));
    assert_eq!(status.code(), Some(1));
}
