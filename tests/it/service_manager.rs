//! What a service manager is told, and the sockets that it gives. systemd itself is not run: its side of sd_notify(3) and
//! sd_listen_fds(3) is played.

use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;

use super::support::{BINARY, Stdiopool, demo, in_tree_of, open_folder};

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(30);

const AUTH: &str = "[auth]\nmode = \"none\"\n";
/// Listens on the addresses that the first argument names, `NAME=ADDRESS` with `,` between them (binds those with `~` only),
/// notes the ports in the file `ports`, and becomes the rest.
const SOCKETS: &str = r#"
import fcntl, os, socket, sys
names, ports, kept = [], [], []
for given in sys.argv[1].split(","):
    name, address = given.split("=")
    listening = socket.socket()
    listening.bind((address.lstrip("~"), 0))
    if not address.startswith("~"):
        listening.listen()
    kept.append(listening)
    names.append(name)
    ports.append(str(listening.getsockname()[1]))
open("ports", "w").write(" ".join(ports))
# Out of the way of the numbers that they get.
copies = [fcntl.fcntl(listening.fileno(), fcntl.F_DUPFD, 100) for listening in kept]
for number, copy in enumerate(copies):
    os.dup2(copy, 3 + number)
    os.close(copy)
os.environ.update(LISTEN_FDS=str(len(names)), LISTEN_FDNAMES=":".join(names), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

fn with_sockets(sockets: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", SOCKETS, sockets, BINARY]);
    command
}

/// A service manager's end of `NOTIFY_SOCKET`.
struct Told(UnixDatagram);

impl Told {
    /// The next message that is none of the watchdog, and how many of those came before it.
    fn next(&self) -> (String, usize) {
        let mut watchdog = 0;
        loop {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).expect("a message in time");
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text != "WATCHDOG=1\n" {
                return (text, watchdog);
            }
            watchdog += 1;
        }
    }

    fn watchdogs(&self, count: usize) {
        for _ in 0..count {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).expect("a message in time");
            assert_eq!(&message[..length], b"WATCHDOG=1\n");
        }
    }
}

#[tokio::test]
async fn a_service_manager_hears_of_the_start_the_watchdog_reloads_and_the_end() {
    let dir = open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), AUTH, &demo("demo", ""));
    let path = dir.path().join("notify");
    let told = UnixDatagram::bind(&path).expect("bound");
    told.set_read_timeout(Some(PATIENCE)).expect("set");
    let told = Told(told);
    let args = ["--config".to_owned(), "pool.toml".to_owned()];
    let env = [
        ("NOTIFY_SOCKET", path.to_str().expect("UTF-8")),
        ("WATCHDOG_USEC", "100000"),
    ];
    let mut pool = Stdiopool::run(dir, &args, &env);
    let (ready, _) = told.next();
    assert!(ready.starts_with("READY=1\nSTATUS=MCP at "), "{ready}");
    told.watchdogs(3);

    let client = pool.client("demo").connect().await;
    client.call("echo", json!({"message": "here"})).await;
    for process in in_tree_of(pool.pid()).into_iter().skip(1) {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid));
        let environment = environment.unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains("NOTIFY_SOCKET"), "{process:?}");
    }

    pool.signal(Signal::SIGHUP);
    let (reloading, _) = told.next();
    assert!(
        reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{reloading}"
    );
    assert_eq!(told.next().0, "READY=1\n");

    assert!(pool.terminate().success());
    let (stopping, _) = told.next();
    assert!(
        stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="),
        "{stopping}"
    );
}

#[tokio::test]
async fn sockets_of_a_service_manager_are_listened_on() {
    for (sockets, auth) in [
        ("admin=127.0.0.1,http=127.0.0.1", AUTH),
        // One alone is the front door's, whatever it is called.
        ("stdiopool.socket=127.0.0.1", AUTH),
        // Judged by the address that is listened on.
        ("http=0.0.0.0", "[auth]\nmode = \"token\"\n"),
    ] {
        let dir = open_folder().expect("a folder");
        Stdiopool::write_config(dir.path(), auth, &demo("demo", ""));
        let args = ["--config".to_owned(), "pool.toml".to_owned()];
        let pool = Stdiopool::start(with_sockets(sockets), dir, &args, &[]);
        let ports = std::fs::read_to_string(pool.dir.path().join("ports")).expect("written");
        let given: Vec<_> = ports.split(' ').map(|port| format!(":{port}")).collect();
        match &given[..] {
            [admin, http] => {
                assert!(pool.url.ends_with(http), "{} is not at {http}", pool.url);
                assert!(
                    pool.admin.ends_with(admin),
                    "{} is not at {admin}",
                    pool.admin
                );
            }
            [http] => assert!(pool.url.ends_with(http), "{} is not at {http}", pool.url),
            other => panic!("{other:?}"),
        }
        if auth == AUTH {
            pool.client("demo").connect().await;
        }
    }
}

#[test]
fn sockets_that_nobody_would_listen_on_are_a_mistake() {
    let refused = |sockets: &str, more: &[&str]| {
        let dir = open_folder().expect("a folder");
        Stdiopool::write_config(dir.path(), AUTH, &demo("demo", ""));
        #[allow(clippy::disallowed_methods, reason = "the program under test")]
        let Output { status, stderr, .. } = with_sockets(sockets)
            .args(["serve", "--config", "pool.toml"])
            .args(more)
            .current_dir(dir.path())
            .output()
            .expect("runs");
        assert!(!status.success(), "{sockets}");
        // Without the frame that errors are wrapped in.
        let said = String::from_utf8_lossy(&stderr).replace(['│', '\n'], " ");
        said.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (sockets, more, why) in [
        (
            "http=127.0.0.1,web=127.0.0.1",
            &[][..],
            "a socket named `web`",
        ),
        (
            "http=127.0.0.1,http=127.0.0.1",
            &[],
            "two sockets for `http`",
        ),
        ("http=~127.0.0.1", &[], "it does not listen"),
        (
            "http=127.0.0.1",
            &["--http", "127.0.0.1:0"],
            "leave one of them out",
        ),
        ("http=0.0.0.0", &[], "is not a loopback address"),
    ] {
        let said = refused(sockets, more);
        assert!(said.contains(why), "{sockets}: {said}");
    }
}
