//! A trace is recorded while serving, and played back against other limits.

use assert_cmd::Command;
use serde_json::{Value, json};

use super::support::{BINARY, Stdiopool, demo};

#[tokio::test]
async fn what_was_recorded_can_be_played_back_and_holds_no_secret() {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &demo("demo", ""));
    let config = dir.path().join("pool.toml").display().to_string();
    let trace = dir.path().join("trace.jsonl");
    let recorded = trace.display().to_string();
    let args = [
        "--config".to_owned(),
        config,
        "--record-trace".to_owned(),
        recorded.clone(),
    ];
    let mut pool = Stdiopool::run(dir, &args, &[]);
    for tenant in ["anna", "bob"] {
        let client = pool.client_of(tenant, "demo").connect().await;
        for _ in 0..3 {
            client.call("echo", json!({"message": "a secret"})).await;
        }
    }
    assert!(pool.terminate().success());
    let text = std::fs::read_to_string(&trace).expect("written");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let of = |what: &str| lines.iter().filter(|line| line["what"] == what).count();
    assert_eq!((of("trace"), of("call"), of("start")), (1, 6, 2), "{text}");
    for hidden in ["anna", "bob", "a secret", "echo"] {
        assert!(!text.contains(hidden), "{text}");
    }

    let tune = |more: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["tune", "--trace", &recorded]).args(more);
        let run = command.assert().success();
        String::from_utf8_lossy(&run.get_output().stdout).into_owned()
    };
    let outcomes: Value = serde_json::from_str(&tune(&["--json"])).expect("JSON");
    let outcomes = outcomes.as_array().expect("a list");
    assert_eq!(outcomes.len(), 12, "every combination");
    for outcome in outcomes {
        assert_eq!(
            (&outcome["served"], &outcome["starts"]),
            (&json!(6), &json!(2))
        );
    }
    let svg = pool.dir.path().join("day.svg").display().to_string();
    let report = tune(&[
        "--max-workers",
        "1,2",
        "--idle-timeout",
        "1m",
        "--svg",
        &svg,
    ]);
    assert!(report.contains("[pool]\nmax_workers = "), "{report}");
    assert!(
        std::fs::read_to_string(svg)
            .expect("drawn")
            .contains("<svg")
    );
}

#[test]
fn what_cannot_be_played_back_is_said() {
    let dir = crate::support::open_folder().expect("a folder");
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "milk, eggs\n").expect("written");
    let mut command = Command::new(BINARY);
    let run = command
        .arg("tune")
        .arg("--trace")
        .arg(&path)
        .assert()
        .failure()
        .code(1);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.contains("line 1 is no line of a trace"), "{said}");
    let mut command = Command::new(BINARY);
    let run = command
        .args(["tune", "--max-workers", "0"])
        .assert()
        .failure()
        .code(2);
    let said = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(said.contains("not a whole number above zero"), "{said}");
}
