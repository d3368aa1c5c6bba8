//! The tables of faults, and of what went wrong in other programs: each row names the tests by which it holds, and those are there.

use crate::bounds_table::sources;

/// Faults of the host, and of what stdiopool is made of.
const FAULTS: &[&str] = &[
    "a worker is killed",
    "the supervisor is killed",
    "the guardian is killed or stopped",
    "the disk is full",
    "the state folder is read-only",
    "no descriptors",
    "no processes",
    "the clock jumps",
    "the store is locked",
    "the store is damaged",
    "a package is half there, or was tampered with",
    "swap is gone while workers sleep",
];

/// The rows of the first table below that heading, as cells; without its head.
fn rows<'t>(text: &'t str, heading: &str) -> Vec<Vec<&'t str>> {
    let part = text.split(heading).nth(1).expect("the heading is there");
    let lines = part.lines().skip_while(|line| !line.starts_with("| "));
    let table = lines.take_while(|line| line.starts_with("| ")).skip(2);
    let cells = |row: &'t str| row.trim_matches(['|', ' ']).split(" | ").collect();
    table.map(cells).collect()
}

/// The names in a cell of tests, of which each must be a test.
fn are_there(sources: &str, row: &[&str]) {
    let tests = row.last().expect("a cell of tests");
    let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
    assert!(!names.is_empty(), "no test: {row:?}");
    for name in names {
        let function = format!("fn {name}(");
        let is_there = sources.split(&function).count();
        assert!(is_there > 1, "`{name}` is not there: {row:?}");
    }
}

#[test]
fn every_fault_has_a_promise_and_a_test() {
    let rows = rows(include_str!("../../docs/guarantees.md"), "\n## Faults\n");
    let sources = sources();
    for row in &rows {
        assert_eq!(
            row.len(),
            4,
            "fault, promise, what is not promised, tests: {row:?}"
        );
        are_there(&sources, row);
    }
    for fault in FAULTS {
        assert!(
            rows.iter().any(|row| row[0] == *fault),
            "no row for `{fault}`"
        );
    }
    assert_eq!(rows.len(), FAULTS.len(), "a row that this does not know");
}

#[test]
fn what_went_wrong_elsewhere_has_a_test() {
    let rows = rows(
        include_str!("../../docs/peers.md"),
        "# What went wrong elsewhere\n",
    );
    assert!(rows.len() > 15, "{}", rows.len());
    let sources = sources();
    for row in &rows {
        assert_eq!(row.len(), 3, "fault, what holds, tests: {row:?}");
        are_there(&sources, row);
    }
}
