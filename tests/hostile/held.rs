//! What hostile clients and tenants tried in vain has a test each, so that it stays so: the table "What held" of
//! `docs/architecture.md` names them, and this walks it.

/// Files that have the tests of the table.
const SOURCES: &[&str] = &[
    include_str!("held_clock.rs"),
    include_str!("held_disk.rs"),
    include_str!("held_http2.rs"),
    include_str!("held_json.rs"),
    include_str!("held_jwt.rs"),
    include_str!("held_kills.rs"),
    include_str!("held_paths.rs"),
    include_str!("held_sessions.rs"),
    include_str!("held_states.rs"),
    include_str!("held_templates.rs"),
];

/// Areas that were attacked.
const AREAS: &[&str] = &[
    "paths",
    "session ids",
    "event ids",
    "request states",
    "handles",
    "JWT",
    "HTTP/2 floods",
    "JSON shapes",
    "templates",
    "disk full",
    "clock jumps",
    "tenants under kills",
];

#[test]
fn every_area_that_held_has_its_tests() {
    let text = include_str!("../../docs/architecture.md");
    let table = text.split("\n## What held\n").nth(1).expect("there");
    let table = table.split("\n## ").next().expect("its end");
    let rows: Vec<_> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .collect();
    for area in AREAS {
        let row = rows
            .iter()
            .find(|row| row.starts_with(&format!("| {area} |")));
        let row = row.unwrap_or_else(|| panic!("no row for {area}"));
        let tests: Vec<_> = row.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{area}");
        for test in tests {
            let function = format!("async fn {test}(");
            let is_there = SOURCES.iter().any(|source| source.contains(&function));
            assert!(is_there, "{area}: `{test}` is not there");
        }
    }
    // And none is left out.
    let mut names = SOURCES.iter().flat_map(|source| {
        let tests = source.split("#[tokio::test").skip(1);
        tests.filter_map(|test| test.split("async fn ").nth(1)?.split('(').next())
    });
    let missing = names.find(|name| !table.contains(&format!("`{name}`")));
    assert_eq!(missing, None, "a test that no row names");
}
