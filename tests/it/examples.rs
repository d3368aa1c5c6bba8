//! The examples of `--help`, run as they are written there.

use std::path::Path;
use std::process::Command;

use super::support::{BINARY, Stdiopool, demo};

#[tokio::test]
async fn the_examples_of_call_and_demo_server_work() {
    let written = tempfile::tempdir().expect("a temporary folder");
    let help = |command: &str| {
        let output = Command::new(BINARY).args([command, "--help"]).output();
        String::from_utf8(output.expect("runs").stdout).expect("text")
    };
    let folder = Path::new(BINARY).parent().expect("a folder");
    let path = format!(
        "{}:{}",
        folder.display(),
        std::env::var("PATH").expect("set")
    );
    let run = |script: &str, url: &str| {
        let mut shell = Command::new("sh");
        // What an example writes is not of the repository.
        shell.current_dir(written.path());
        shell
            .args(["-c", script])
            .env("PATH", &path)
            .env("STDIOPOOL_URL", url);
        let output = shell.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{script}: {text}{why}");
        text
    };
    let example = |help: &str| {
        let (_, example) = help.split_once("Example").expect("has one");
        example
            .split_once('\n')
            .expect("on the next line")
            .1
            .to_owned()
    };
    // Neither help nor errors are wrapped, into files and pipes above all.
    let wrong = Command::new(BINARY)
        .args([
            "call",
            "x",
            "y",
            "not JSON at all, which is told on one line however long it is",
        ])
        .output();
    let wrong = String::from_utf8_lossy(&wrong.expect("runs").stderr).into_owned();
    assert!(
        wrong
            .lines()
            .next()
            .is_some_and(|line| line.contains("not a JSON object")),
        "{wrong}"
    );
    let said = run(&example(&help("demo-server")), "");
    assert!(said.contains("\"text\":\"3\""), "{said}");
    let pool = Stdiopool::serve(&demo("demo", ""));
    let examples = example(&help("call"));
    let (only, of_file): (Vec<_>, Vec<_>) =
        examples.lines().partition(|line| line.contains("call -"));
    assert!(of_file.len() >= 2, "{examples}");
    for line in of_file.iter().filter(|line| !line.trim().is_empty()) {
        run(line, &pool.url);
    }
    let dir = crate::support::open_folder().expect("a folder");
    let args = [
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--",
        BINARY,
        "demo-server",
    ];
    let alone = Stdiopool::run(dir, &args.map(ToOwned::to_owned), &[]);
    assert!(run(only[0], &alone.url).contains("hi"));
}
