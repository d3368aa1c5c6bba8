//! Processes of others: what they have in memory, and whether they go on.

use super::prober::{World, assert_denied, attempt, is_root, told, user_of};
use super::support::in_tree_of;

/// ptrace(2), process_vm_readv(2) and pidfd_getfd(2) by way of libc: what they return, or the error as an exception.
const CALLS: &str = r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    returned = libc.syscall(*args)
    if returned < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return returned
"#;

#[tokio::test]
async fn memory_environment_and_descriptors_of_others_are_out_of_reach() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let bob = told(&world.bob, "result = os.getpid()").await;
    let bob = bob.as_u64().expect("a pid");
    let environment = std::fs::read(format!("/proc/{bob}/environ")).expect("root reads it");
    let is_there = environment.windows(11).any(|part| part == b"bobs-secret");
    assert!(is_there, "what is tried to be read is there");
    let supervisor = u64::from(world.pool.pid());
    // The guardian and the init processes are among them.
    let below = in_tree_of(world.pool.pid());
    let anna = told(&world.anna, "result = os.getpid()").await;
    let others = below.iter().map(|process| u64::from(process.pid));
    let others: Vec<u64> = others.filter(|pid| *pid != anna).collect();
    assert!(others.len() >= 4 && others.contains(&bob), "{others:?}");
    for pid in others.into_iter().chain([supervisor]) {
        assert_ne!(user_of(pid), user_of(anna.as_u64().expect("a pid")));
        for file in [
            "environ", "mem", "maps", "auxv", "cmdline", "syscall", "stack",
        ] {
            assert_denied(
                &world.anna,
                &format!("result = open('/proc/{pid}/{file}', 'rb').read(64).hex()"),
            )
            .await;
        }
        for link in ["fd", "cwd", "root", "map_files"] {
            let code = format!("result = os.listdir('/proc/{pid}/{link}')");
            assert_denied(&world.anna, &code).await;
        }
        for call in [
            // PTRACE_ATTACH, PTRACE_SEIZE
            format!("result = call(101, 16, {pid}, 0, 0)"),
            format!("result = call(101, 0x4206, {pid}, 0, 0)"),
            format!("result = call(438, call(434, {pid}, 0), 0, 0)"),
            format!(
                "b = ctypes.create_string_buffer(8)\nclass V(ctypes.Structure):\n  _fields_ = [('a', ctypes.c_void_p), ('l', ctypes.c_size_t)]\no = V(ctypes.addressof(b), 8)\nr = V(0x400000, 8)\nresult = call(310, {pid}, ctypes.byref(o), 1, ctypes.byref(r), 1, 0)"
            ),
        ] {
            assert_denied(&world.anna, &format!("{CALLS}{call}")).await;
        }
        for signal in [0, 9, 15, 19] {
            assert_denied(&world.anna, &format!("os.kill({pid}, {signal})")).await;
        }
    }
    // All at once, which kill(2) sends to whatever it may.
    let said = attempt(
        &world.anna,
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.kill(-1, signal.SIGTERM)",
    )
    .await;
    assert_ne!(said["error"], "", "{said}");
    let after = told(&world.bob, "result = os.getpid()").await;
    assert_eq!(after, bob, "it was not touched");
}

#[tokio::test]
async fn neither_other_processes_nor_their_command_lines_are_listed() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let code = "result = [p for p in os.listdir('/proc') if p.isdigit()]";
    let listed = told(&world.anna, code).await;
    let own = told(&world.anna, "result = [str(os.getpid())]").await;
    assert_eq!(listed, own);
}

#[tokio::test]
async fn there_is_no_privilege_left_and_none_to_be_had() {
    if !is_root() {
        return;
    }
    let world = World::new().await;
    let code = "result = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if line.startswith(('Cap', 'NoNew', 'Groups', 'Uid')))";
    let status = told(&world.anna, code).await;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{status}");
    }
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["Groups"].as_str().expect("said").trim(), "");
    for code in [
        "os.setuid(0)",
        "os.setgroups([0])",
        "os.chroot('/')",
        "os.mknod(os.environ['HOME'] + '/d', 0o20600, os.makedev(1, 1))",
        "os.chown(os.environ['HOME'], 0, 0)",
    ] {
        assert_denied(&world.anna, code).await;
    }
    // What no isolation may prevent.
    let code = "open('/dev/stderr', 'w').write('x')\nopen('/dev/null', 'w').write('x')\nresult = len(open('/dev/urandom', 'rb').read(8)) + len(os.listdir('/proc/self/fd')) * 0";
    assert_eq!(told(&world.anna, code).await, 8);
}
