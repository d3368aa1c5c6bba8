//! The pool.toml that comes along, as `scripts/run` serves it: demo, npm and PyPI servers for two
//! tenants.

use std::path::Path;

use http::StatusCode;
use serde_json::{Value, json};

use super::support::{BINARY, Stdiopool, until};

#[tokio::test]
async fn two_tenants_use_every_server_of_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = crate::support::open_folder().expect("a folder");
    std::fs::copy(root.join("pool.toml"), dir.path().join("pool.toml")).expect("copied");
    let config = dir.path().join("pool.toml");
    let mut prefetch = assert_cmd::Command::new(BINARY);
    prefetch.arg("prefetch").arg("--config").arg(config);
    prefetch.assert().success();
    let args = ["--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"].map(ToOwned::to_owned);
    let pool = Stdiopool::run(dir, &args, &[]);
    for (tenant, greeting, timezone) in [
        ("acme", "Good morning", "Europe/Berlin"),
        ("globex", "Howdy", "America/Chicago"),
    ] {
        let token = format!("demo-{tenant}-token");
        let connect = |server: &str| pool.client(server).with_token(&token).connect();

        let demo = connect("demo").await;
        let shown = demo.call("whoami", json!({})).await;
        let shown: Value = serde_json::from_str(shown.text()).expect("JSON");
        assert_eq!(shown["arguments"][1], greeting);
        assert_eq!(shown["environment"]["DEMO_TENANT"], tenant);
        assert_eq!(shown["environment"]["DEMO_KEY"], format!("{tenant}'s key"));

        let time = connect("time").await;
        let tools = time.ask("tools/list", json!({})).await;
        assert!(tools.result().to_string().contains(timezone), "{tools:?}");

        let everything = connect("everything").await;
        let echoed = everything.call("echo", json!({"message": tenant})).await;
        assert!(echoed.text().contains(tenant));

        // Each writes a file of the same name, and reads its own back.
        let files = connect("files").await;
        let folder = files.call("list_allowed_directories", json!({})).await;
        let folder = folder.text().lines().last().expect("a folder").to_owned();
        assert!(
            folder.ends_with(&format!("data/{tenant}/files")),
            "{folder}"
        );
        let path = format!("{folder}/note.txt");
        let written = json!({"path": path, "content": greeting});
        files.call("write_file", written).await.result();
        let read = files.call("read_text_file", json!({"path": path})).await;
        assert_eq!(read.text(), greeting);
        let others = path.replace(tenant, if tenant == "acme" { "globex" } else { "acme" });
        let denied = files.call("read_text_file", json!({"path": others})).await;
        assert_eq!(denied.result()["isError"], true, "{denied:?}");
    }
    let stranger = pool.client("demo").with_token("demo-initech-token");
    let refused = stranger.try_initialize("2025-11-25", json!({})).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(pool.workers().await.len(), 8);
}

/// The tree of a small crate beside a copy of the script that looks for circles in it.
#[test]
fn a_new_circle_of_files_in_a_room_is_found_and_a_shorter_list_is_asked_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = crate::support::open_folder().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    for folder in ["scripts", "src/house/attic", "src/shed"] {
        std::fs::create_dir_all(at(folder)).expect("made");
    }
    std::fs::copy(root.join("scripts/circles"), at("scripts/circles")).expect("copied");
    let write = |name: &str, text: &str| std::fs::write(at(name), text).expect("written");
    let says = || {
        let circles = std::process::Command::new("python3")
            .arg(at("scripts/circles"))
            .output()
            .expect("runs");
        let said = String::from_utf8(circles.stderr).expect("a text");
        (circles.status.success(), said)
    };
    write("scripts/circles.allow", "# none\n");
    write(
        "src/house/mod.rs",
        "mod attic;\nmod door;\npub use door::Door;\n",
    );
    // What a comment, a text or a test names is no import, and what is handed on is no import of who hands it on.
    write(
        "src/house/door.rs",
        "//! Beside [`super::attic::Beam`].\npub struct Door; // use super::attic::Beam;\nconst URL: &str = \"http://\";\n#[cfg(test)]\nmod tests { use super::super::attic::Beam; }\n",
    );
    write("src/house/attic/mod.rs", "mod beam;\npub use beam::Beam;\n");
    write(
        "src/house/attic/beam.rs",
        "use crate::house::{Door as Way};\npub struct Beam(Way);\n",
    );
    write("src/shed/mod.rs", "use crate::house::Door;\n");
    assert_eq!(says(), (true, String::new()));

    write(
        "src/house/door.rs",
        "use super::attic::Beam;\npub struct Door(Box<Beam>);\n",
    );
    let (passed, said) = says();
    assert!(!passed);
    assert!(
        said.contains("`house`: 2 files with 2 imports are in circles, 0 with 0 may be"),
        "{said}"
    );
    write("scripts/circles.allow", "house 2 2 it was there\n");
    assert_eq!(says(), (true, String::new()));
    write("src/house/door.rs", "pub struct Door;\n");
    let (passed, said) = says();
    assert!(!passed && said.contains("only 0 files"), "{said}");
}

/// A folder in which `scripts/test` runs with everything else played: each program says that it ran, and `cargo` stays.
fn played_tests() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = crate::support::open_folder().expect("a folder");
    let here = dir.path().display().to_string();
    let says = |what: &str| format!("#!/bin/sh\necho {what} $* >> {here}/ran\n");
    let mut files = vec![
        (
            "scripts/test",
            std::fs::read_to_string(root.join("scripts/test")).expect("read"),
        ),
        (
            "bin/cargo",
            says("cargo")
                + &format!("sed -n 's/^SigIgn:.//p' /proc/self/status > {here}/ignored\n")
                + "sleep 100 & echo $! > child; wait\n",
        ),
        // As root on a host without zram, whatever this one is.
        ("bin/id", "#!/bin/sh\necho 0\n".to_owned()),
        ("bin/grep", "#!/bin/sh\nexit 1\n".to_owned()),
    ];
    for name in [
        "scripts/install",
        "scripts/layers",
        "scripts/web",
        "scripts/zram",
        "tests/peers/setup.sh",
        "tests/launchers.sh",
        "bin/npm",
        "bin/uvx",
    ] {
        files.push((name, says(name)));
    }
    for (name, text) in files {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        std::fs::write(&file, text).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("set");
    }
    dir
}

#[test]
fn interrupted_tests_leave_neither_swap_nor_processes() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let dir = played_tests();
        let path = std::env::var("PATH").expect("a PATH");
        #[allow(
            clippy::disallowed_methods,
            reason = "a script of the repository's own, not a worker"
        )]
        let mut script = std::process::Command::new("env")
            // However this test was started: a shell cannot trap what it was born to ignore.
            .arg("--default-signal=INT,TERM,HUP")
            .arg(dir.path().join("scripts/test"))
            .env("PATH", format!("{}/bin:{path}", dir.path().display()))
            .spawn()
            .expect("runs");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        let child = until("the tests run", || read("child").trim().parse::<u32>().ok());
        assert!(!read("ran").contains("zram off"), "{signal}");
        let ignored = u64::from_str_radix(read("ignored").trim(), 16).expect("a mask");
        assert_eq!(ignored & 0b110, 0, "INT and QUIT: {ignored:b}");
        let pid = Pid::from_raw(i32::try_from(script.id()).expect("a pid"));
        kill(pid, signal).expect("sent");
        let status = script.wait().expect("ends");
        assert_eq!(status.code(), Some(128 + signal as i32), "{signal}");
        let ran = read("ran");
        assert!(
            ran.contains("scripts/zram 1G\n") && ran.ends_with("scripts/zram off\n"),
            "{signal}: {ran}"
        );
        until("what the tests had started is gone", || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        });
    }
}

/// Whether the sources have a file or folder of that path below `src`, or the path itself.
fn is_there(path: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let below = root.join("src").join(path);
    root.join(path).exists() || below.exists() || below.with_extension("rs").exists()
}

#[test]
fn what_the_drawing_of_a_requests_way_names_is_there() {
    let text = include_str!("../../docs/architecture.md");
    let drawing = text.split("```").nth(1).expect("the first block");
    let words = drawing.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '/' | '_')));
    let modules = [
        "front/",
        "gateway/",
        "routing/",
        "pool/",
        "upstream/",
        "bridge/",
        "worker/",
    ];
    let named: Vec<_> = words
        .filter(|word| modules.iter().any(|module| word.starts_with(module)))
        .collect();
    assert!(named.len() > 15, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|path| !is_there(path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn files_that_contributors_are_sent_to_are_there() {
    let text = include_str!("../../CONTRIBUTING.md");
    let quoted = text.split('`').skip(1).step_by(2);
    let paths: Vec<_> = quoted
        .filter(|word| word.starts_with("src/") || word.starts_with("tests/"))
        .collect();
    assert!(paths.len() > 30, "{paths:?}");
    let missing: Vec<_> = paths.iter().filter(|path| !is_there(path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
