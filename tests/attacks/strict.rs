//! What a server with `sandbox = "strict"` tries, and one without a network: as root, and where stdiopool runs as another user.

use std::os::unix::fs::chown;

use serde_json::json;

use super::prober::{World, assert_denied, attempt, is_root, told};
use super::support::{Stdiopool, eventually, in_tree_of};
use super::user::USER;

const STRICT: &str = "sandbox = \"strict\"";
const OFF: &str = "sandbox = \"strict\"\nnetwork = \"off\"";
/// Calls by their numbers, of which libc has no functions; an error is an exception.
const CALLS: &str = r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    returned = libc.syscall(*[ctypes.c_long(arg) for arg in args])
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return returned
"#;

/// A world whose stdiopool runs as another user than root, with more keys of the server.
async fn of_user(more: &str) -> World {
    let dir = tempfile::tempdir().expect("a temporary folder");
    chown(dir.path(), Some(USER), Some(USER)).expect("given");
    let run = |dir, args: &[String], _env: &[(&str, &str)]| Stdiopool::run_as(USER, dir, args);
    World::in_folder(dir, more, run).await
}

#[tokio::test]
async fn processes_of_others_do_not_exist_for_it() {
    if !is_root() {
        return;
    }
    for world in [World::with(STRICT).await, of_user(STRICT).await] {
        let code =
            "result = [os.getpid(), sorted(int(p) for p in os.listdir('/proc') if p.isdigit())]";
        let seen = told(&world.anna, code).await;
        assert_eq!(seen[0], 2, "{seen}");
        let listed = seen[1].as_array().expect("pids");
        assert!(listed.iter().all(|pid| *pid == 1 || *pid == 2), "{seen}");
        // Its init process, which is the only other: neither read nor ended.
        for file in ["environ", "mem", "maps"] {
            let code = format!("result = open('/proc/1/{file}', 'rb').read(64).hex()");
            assert_denied(&world.anna, &code).await;
        }
        for link in ["root", "cwd", "ns/mnt", "ns/pid"] {
            assert_denied(
                &world.anna,
                &format!("result = os.readlink('/proc/1/{link}')"),
            )
            .await;
        }
        let below = in_tree_of(world.pool.pid());
        for pid in below.iter().map(|it| it.pid).chain([world.pool.pid()]) {
            if pid > 2 {
                let code = format!("os.kill({pid}, 0)");
                let said = attempt(&world.anna, &code).await;
                assert_eq!(said["errno"], 3, "ESRCH: {code}: {said}");
            }
        }
        let killed = "import signal\nos.kill(1, signal.SIGKILL)";
        let _may_be_its_own_user = attempt(&world.anna, killed).await;
        assert_eq!(told(&world.anna, "result = os.getpid()").await, 2);
    }
}

#[tokio::test]
async fn nothing_of_the_host_is_there_but_what_it_needs() {
    if !is_root() {
        return;
    }
    for world in [World::with(STRICT).await, of_user(STRICT).await] {
        let beside = world.pool.dir.path().join("beside");
        std::fs::write(&beside, "x").expect("written");
        let others = told(
            &world.bob,
            "open('mine', 'w').write('x')\nresult = [os.getcwd(), os.environ['KEY_FILE']]",
        )
        .await;
        let others = others.as_array().expect("paths").iter();
        let others = others.map(|path| path.as_str().expect("a path").to_owned());
        let host = [
            "/etc/shadow",
            "/etc/ssh",
            "/etc/machine-id",
            "/sys/kernel",
            "/home",
            "/srv",
            "/boot",
            "/.host",
            "/run/lock",
            "/var/lib",
            "/var/log",
        ];
        let host = host.iter().map(|path| (*path).to_owned());
        let own = [beside, world.state().join("state.db")];
        let own = own.iter().map(|path| path.display().to_string());
        for path in others.chain(host).chain(own) {
            let code = format!(
                "result = os.listdir({path:?}) if os.path.isdir({path:?}) else open({path:?}, 'rb').read(1).hex()"
            );
            assert_denied(&world.anna, &code).await;
        }
        for code in [
            "open('/new', 'w')",
            "open('/etc/new', 'w')",
            "open('/usr/new', 'w')",
            "open('/run/new', 'w')",
            "os.mkdir('/dev/new')",
            "open(sys.argv[0], 'a')",
            "open('/etc/hosts', 'a')",
            "os.chmod('/usr/bin/env', 0o777)",
        ] {
            assert_denied(&world.anna, code).await;
        }
        // What no isolation may prevent.
        let code = "import tempfile, subprocess, socket\nopen('own', 'w').write('x')\nopen('/dev/stderr', 'w').write('x')\nopen('/dev/null', 'w').write('x')\nopen('/dev/shm/x', 'w').write('x')\nopen('/tmp/x', 'w').write('x')\nopen('/var/tmp/x', 'w').write('x')\ntempfile.TemporaryFile().write(b'x')\nos.openpty()\nos.rename('own', 'own2')\nresult = [subprocess.run(['sh', '-c', 'echo $(uname -n)'], capture_output=True, text=True).stdout, socket.gethostbyname('localhost'), open(os.environ['KEY_FILE']).read()]";
        let said = told(&world.anna, code).await;
        assert_eq!(said, json!(["localhost\n", "127.0.0.1", "annas-secret"]));
        let seen = told(
            &world.bob,
            "result = [os.path.exists(p + '/x') for p in ['/tmp', '/var/tmp', '/dev/shm']]",
        )
        .await;
        assert_eq!(seen, json!([false, false, false]), "each has its own");
    }
}

/// Requests to a terminal that are refused by number (TIOCSTI, TIOCLINUX). On its own one, and on what is none: with the errno of the kernel it
/// would be let through (ENOTTY, or EIO where the host has TIOCSTI off). The kernel takes the lower half of a request.
#[tokio::test]
async fn text_cannot_be_put_into_a_terminals_input() {
    if !is_root() {
        return;
    }
    let code = |descriptor: &str, request: u64| {
        format!(
            "{CALLS}import pty\nmaster, slave = pty.openpty()\nplain = os.open('/dev/null', os.O_RDWR)\ntext = ctypes.create_string_buffer(b'x')\ncall(16, {descriptor}, {request}, ctypes.addressof(text))"
        )
    };
    for world in [World::with(STRICT).await, of_user(STRICT).await] {
        for request in [
            0x5412,
            0x1_0000_5412,
            0xffff_ffff_0000_5412,
            0x541c,
            0x8000_0000_0000_541c,
        ] {
            for descriptor in ["slave", "master", "plain"] {
                let said = attempt(&world.anna, &code(descriptor, request)).await;
                assert_eq!(
                    said["errno"], 1,
                    "EPERM: {request:#x} to {descriptor}: {said}"
                );
            }
        }
        // Others go on to the kernel, which knows no such request, and what is no terminal.
        for (request, errno) in [(0x1_0000, 25), (0x5401, 25)] {
            let said = attempt(&world.anna, &code("plain", request)).await;
            assert_eq!(said["errno"], errno, "{request:#x}: {said}");
        }
        let size = "import pty, fcntl, termios, struct\nmaster, slave = pty.openpty()\nfcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))\nresult = struct.unpack('HHHH', fcntl.ioctl(master, termios.TIOCGWINSZ, bytes(8)))[:2]";
        assert_eq!(told(&world.anna, size).await, json!([24, 80]));
    }
}

#[tokio::test]
async fn calls_into_the_kernel_that_no_server_needs_are_refused() {
    if !is_root() {
        return;
    }
    for world in [World::with(STRICT).await, of_user(STRICT).await] {
        // Numbers of x86-64, the last four of all processors. All arguments are harmless where the call is let through.
        for (name, number, errno) in [
            ("ptrace", 101, 1),
            ("process_vm_readv", 310, 1),
            ("process_vm_writev", 311, 1),
            ("kcmp", 312, 1),
            ("bpf", 321, 1),
            ("keyctl", 250, 1),
            ("add_key", 248, 1),
            ("request_key", 249, 1),
            ("userfaultfd", 323, 1),
            ("perf_event_open", 298, 1),
            ("mount", 165, 1),
            ("umount2", 166, 1),
            ("pivot_root", 155, 1),
            ("chroot", 161, 1),
            ("setns", 308, 1),
            ("init_module", 175, 1),
            ("finit_module", 313, 1),
            ("delete_module", 176, 1),
            ("kexec_load", 246, 1),
            ("kexec_file_load", 320, 1),
            ("open_by_handle_at", 304, 1),
            ("syslog", 103, 1),
            ("io_uring_setup", 425, 38),
            ("clone3", 435, 38),
            ("open_tree", 428, 1),
            ("pidfd_getfd", 438, 1),
            ("one that is not known", 499, 38),
        ] {
            let code = format!("{CALLS}call({number}, -1, 0, 0, 0, 0)");
            let said = attempt(&world.anna, &code).await;
            assert_eq!(said["errno"], errno, "{name}: {said}");
        }
        for (name, code) in [
            ("unshare a user namespace", "call(272, 0x10000000)"),
            ("unshare mounts", "call(272, 0x20000)"),
            ("unshare the network", "call(272, 0x40000000)"),
            (
                "clone into a user namespace",
                "call(56, 0x10000000 | 17, 0, 0, 0, 0)",
            ),
        ] {
            let said = attempt(&world.anna, &format!("{CALLS}{code}")).await;
            assert_eq!(said["errno"], 1, "{name}: {said}");
        }
        // Families of sockets: vsock, AF_ALG, AF_PACKET.
        for family in [40, 38, 17] {
            let code = format!("{CALLS}call(41, {family}, 2, 0)");
            assert_eq!(attempt(&world.anna, &code).await["errno"], 97, "{family}");
        }
        // What programs do all the time.
        let code = format!(
            "{CALLS}import threading, subprocess, fcntl, termios, socket\nt = threading.Thread(target=lambda: None)\nt.start()\nt.join()\nsocket.socket(socket.AF_INET6)\nsocket.socketpair()\ncall(272, 0x400)\nresult = subprocess.run(['true']).returncode"
        );
        assert_eq!(told(&world.anna, &code).await, 0);
    }
}

#[tokio::test]
async fn shared_memory_and_sockets_without_a_name_are_its_own() {
    if !is_root() {
        return;
    }
    for world in [World::with(OFF).await, of_user(OFF).await] {
        // shmget with a key that others know, made for all.
        let make = format!("{CALLS}result = call(29, 0x5d10, 4096, 0o1666)");
        told(&world.bob, &make).await;
        let find = format!("{CALLS}result = call(29, 0x5d10, 4096, 0)");
        told(&world.bob, &find).await;
        assert_denied(&world.anna, &find).await;
        let listen = "import socket, builtins\ns = socket.socket(socket.AF_UNIX)\ns.bind('\\0strict-attack')\ns.listen()\nbuiltins.kept = s\nresult = 1";
        told(&world.bob, listen).await;
        let connect = "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('\\0strict-attack')\nresult = 1";
        told(&world.bob, connect).await;
        assert_denied(&world.anna, connect).await;
    }
}

#[tokio::test]
async fn without_a_network_it_reaches_itself_alone() {
    if !is_root() {
        return;
    }
    let standard = "network = \"off\"";
    for world in [
        World::with(OFF).await,
        World::with(standard).await,
        of_user(OFF).await,
        of_user(standard).await,
    ] {
        let ports = [&world.pool.url, &world.pool.admin].map(|url| {
            let port = url.rsplit(':').next().expect("a port");
            port.trim_end_matches('/').to_owned()
        });
        let open = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
        let open = open.local_addr().expect("bound").port().to_string();
        for port in ports.iter().chain([&open]) {
            drop(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("it is there"));
            let code = format!("import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)");
            assert_denied(&world.anna, &code).await;
        }
        // ENETUNREACH: no way leads anywhere, also to what clouds tell of themselves.
        for address in ["169.254.169.254", "10.0.0.1", "8.8.8.8"] {
            let code = format!(
                "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(({address:?}, 53))"
            );
            assert_eq!(attempt(&world.anna, &code).await["errno"], 101, "{address}");
        }
        let code = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname(), 5)\nresult = [name for _, name in socket.if_nameindex()]";
        assert_eq!(
            told(&world.anna, code).await,
            json!(["lo"]),
            "its own loopback is up"
        );
    }
}

#[tokio::test]
async fn a_tenant_can_be_without_a_network_where_others_have_one() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let toml = super::prober::prober("probe", "") + "[tenants.anna]\nnetwork.probe = \"off\"\n";
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
    let config = dir.path().join("pool.toml").display().to_string();
    let pool = Stdiopool::run(dir, &["--config".to_owned(), config], &[]);
    let code = "import socket\nresult = len(socket.if_nameindex())";
    let anna = pool.client_of("anna", "probe").connect().await;
    let bob = pool.client_of("bob", "probe").connect().await;
    assert_eq!(told(&anna, code).await, 1);
    let of_host = std::fs::read_dir("/sys/class/net").expect("listed").count();
    assert_eq!(told(&bob, code).await, of_host);
}

#[tokio::test]
async fn what_a_strict_server_started_ends_with_it() {
    if !is_root() {
        return;
    }
    for world in [World::with(STRICT).await, of_user(STRICT).await] {
        // A daemon that leaves its parent, its session and its descriptors.
        let code = "pid = os.fork()\nif pid == 0:\n  os.setsid()\n  if os.fork():\n    os._exit(0)\n  os.closerange(0, 100)\n  import time\n  time.sleep(600)\n  os._exit(0)\nos.waitpid(pid, 0)\nresult = sorted(int(p) for p in os.listdir('/proc') if p.isdigit())";
        let seen = told(&world.anna, code).await;
        assert!(seen.as_array().expect("pids").len() >= 2, "{seen}");
        let workers = world.pool.workers().await;
        let worker = workers
            .iter()
            .find(|it| it["tenant"] == "anna")
            .expect("it is there");
        let pid = worker["pid"].as_u64().expect("a pid");
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).expect("a process of the host");
        assert!(
            String::from_utf8_lossy(&cmdline).contains("prober.py"),
            "the pid is the host's"
        );
        let before: Vec<_> = in_tree_of(world.pool.pid());
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(pid).expect("a pid")),
            nix::sys::signal::Signal::SIGKILL,
        )
        .expect("it is there");
        eventually("all of it is gone", async || {
            in_tree_of(world.pool.pid()).len() + 3 <= before.len()
        })
        .await;
        assert_eq!(told(&world.bob, "result = os.getpid()").await, 2);
    }
}
