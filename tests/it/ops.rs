//! What comes along for those who watch a pool: alerts, a dashboard, and what to do about each alert. Prometheus' own program
//! (`promtool`) judges these, and systemd's (`systemd-analyze`) the units; `scripts/test` installs both.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::support::{BINARY, Stdiopool, demo};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(path: &str) -> String {
    let path = Path::new(ROOT).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs promtool in `ops/`, with that on its stdin; `None` where it is not installed.
fn promtool(args: &[&str], stdin: &str) -> Option<Output> {
    #[allow(clippy::disallowed_methods, reason = "it ends at once")]
    let started = Command::new("promtool")
        .args(args)
        .current_dir(Path::new(ROOT).join("ops"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: promtool is not installed; `scripts/install promtool` does that");
            return None;
        }
        started => started.expect("it runs"),
    };
    let mut pipe = running.stdin.take().expect("a pipe");
    // One that does not read its stdin may have ended.
    let _unread = pipe.write_all(stdin.as_bytes());
    drop(pipe);
    Some(running.wait_with_output().expect("it ends"))
}

#[track_caller]
fn assert_passes(output: Option<Output>) {
    if let Some(output) = output {
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "it warns: {output:?}");
    }
}

/// The names of all alerts.
fn alerts() -> Vec<String> {
    let rules = read("ops/alerts.yml");
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(ToOwned::to_owned).collect()
}

#[test]
fn each_alert_fires_on_what_it_is_for_and_none_on_a_quiet_pool() {
    assert_passes(promtool(&["check", "rules", "alerts.yml"], ""));
    let tested = promtool(&["test", "rules", "alerts_test.yml"], "");
    if let Some(output) = tested {
        // Its errors are on stdout or stderr, by version.
        assert!(output.status.success(), "{output:?}");
    }
    let tests = read("ops/alerts_test.yml");
    for alert in alerts() {
        let quiet = format!("{{ eval_time: 30m, alertname: {alert} }}");
        assert!(
            tests.contains(&quiet),
            "{alert} is not tested on a quiet pool"
        );
        assert!(
            tests.contains(&format!("  - name: {alert}\n")),
            "{alert} is not tested to fire"
        );
    }
}

#[test]
fn each_alert_has_a_section_that_says_what_to_do() {
    let runbook = read("docs/operations.md");
    let rules = read("ops/alerts.yml");
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("## "));
    let sections = sections.filter(|section| section.starts_with("Stdiopool"));
    let sections: Vec<_> = sections.collect();
    assert_eq!(sections, alerts(), "in the order of the rules");
    for alert in alerts() {
        let anchor = format!("runbook: docs/operations.md#{}\n", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert} does not lead there");
    }
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let dashboard: Value = serde_json::from_str(&read("ops/grafana.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("a list");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let queries = targets
        .flatten()
        .map(|target| target["expr"].as_str().expect("a query"));
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    let mut count = 0;
    for query in queries {
        // What Grafana puts in before it asks.
        let query = query.replace("$__rate_interval", "5m");
        let query = query.replace("$job", "stdiopool").replace("$server", ".*");
        rules += &format!(
            "      - record: query:{count}\n        expr: {}\n",
            json!(query)
        );
        count += 1;
    }
    assert!(count > 20, "{count}");
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, rules.replace("query:", "query_")).expect("written");
    let checked = promtool(&["check", "rules", &file.display().to_string()], "");
    if let Some(output) = checked {
        assert!(output.status.success(), "{output:?}");
    }
}

#[tokio::test]
async fn metrics_are_as_prometheus_wants_them() {
    let pool = Stdiopool::serve(&demo("demo", ""));
    let client = pool.client_of("acme", "demo").connect().await;
    client.call("echo", json!({ "message": "x" })).await;
    assert_passes(promtool(&["check", "metrics"], &pool.metrics().await));
}

#[test]
fn the_units_are_ones_that_systemd_takes() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    for unit in ["stdiopool.service", "stdiopool.socket"] {
        let text = read(&format!("ops/systemd/{unit}"));
        let path = dir.path().join(unit);
        // It is looked for where the unit says.
        std::fs::write(&path, text.replace("/usr/local/bin/stdiopool", BINARY)).expect("written");
        command.arg(path);
    }
    #[allow(clippy::disallowed_methods, reason = "it ends at once")]
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: `scripts/install systemd` installs systemd-analyze");
        }
        output => assert_passes(Some(output.expect("it runs"))),
    }
}
