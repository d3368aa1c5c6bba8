//! `stdiopool prefetch`: packages before anyone waits for them.

use super::support::BINARY;

#[test]
fn a_command_that_never_ends_is_ended_with_all_it_started() {
    use std::os::unix::fs::PermissionsExt;

    use super::support::{command_line_of, in_tree_of, until};

    let dir = crate::support::open_folder().expect("a folder");
    let npm = dir.path().join("npm");
    std::fs::write(&npm, "#!/bin/sh\nsetsid sleep 4727 &\nsleep 4728\n").expect("written");
    std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("set");
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", dir.path().display());
    let toml = format!(
        "[launch]\ninstall_timeout = \"1s\"\n[servers.thing]\ncommand = \"npx\"\nargs = [\"-y\", \"thing@1.0.0\"]\nenv = {{ PATH = {path:?} }}\n"
    );
    let config = dir.path().join("pool.toml");
    std::fs::write(&config, toml).expect("written");
    let began = std::time::Instant::now();
    let mut command = assert_cmd::Command::new(BINARY);
    command.args(["prefetch", "--config"]).arg(&config);
    let failed = command.assert().code(1);
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
    let why = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    for part in [
        "did not end within 1s",
        "`launch.install_timeout`",
        "thing@1.0.0",
    ] {
        assert!(why.contains(part), "{why}");
    }
    // What was killed goes at its own pace.
    until("nothing is left", || {
        let mut lines = in_tree_of(1).into_iter().map(command_line_of);
        let is_left = lines.any(|line| line.contains("sleep 4727") || line.contains("sleep 4728"));
        (!is_left).then_some(())
    });
}

#[test]
fn packages_are_fetched_and_what_cannot_be_had_is_said() {
    let dir = crate::support::open_folder().expect("a folder");
    let config = dir.path().join("pool.toml");
    let toml = r#"
[servers.everything]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-everything@2026.8.31"]
[servers.time]
command = "uvx"
args = ["mcp-server-time@2026.10.19", "--local-timezone", "${config.zone:-UTC}"]
[servers.as_is]
command = "npx"
args = ["-y", "@modelcontextprotocol/server-everything@2026.8.31"]
launch = "as-is"
[servers.plain]
command = "true"
[servers.missing]
command = "npx"
args = ["-y", "@stdiopool-test/there-is-no-such-package"]
"#;
    std::fs::write(&config, toml).expect("written");
    let prefetch = |servers: &[&str]| {
        let mut command = assert_cmd::Command::new(BINARY);
        command
            .arg("prefetch")
            .args(servers)
            .arg("--config")
            .arg(&config);
        command.assert()
    };
    let fetched = prefetch(&["everything", "time", "as_is", "plain"]).success();
    let said = String::from_utf8_lossy(&fetched.get_output().stdout).into_owned();
    assert!(
        said.contains("everything: @modelcontextprotocol/server-everything@2026.8.31 fetched, version 2026.8.31"),
        "{said}"
    );
    assert!(
        said.contains("time: mcp-server-time==2026.10.19 fetched, version 2026.10.19"),
        "{said}"
    );
    assert!(
        said.contains(
            "as_is: @modelcontextprotocol/server-everything@2026.8.31 is run as written, and fetched by the first start of each tenant"
        ),
        "{said}"
    );
    assert!(!said.contains("plain"), "{said}");
    let again = prefetch(&["everything"]).success();
    let said = String::from_utf8_lossy(&again.get_output().stdout).into_owned();
    assert!(said.contains("is there, version 2026.8.31"), "{said}");
    let failed = prefetch(&["missing"]).code(1);
    let why = String::from_utf8_lossy(&failed.get_output().stderr).into_owned();
    assert!(why.contains("there-is-no-such-package"), "{why}");
    let unknown = prefetch(&["nothing"]).code(1);
    let why = String::from_utf8_lossy(&unknown.get_output().stderr).into_owned();
    assert!(why.contains("no server `nothing`"), "{why}");
}
