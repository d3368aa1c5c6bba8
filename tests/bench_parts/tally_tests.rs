//! Counts of soaks add up over runs.

use super::tally::Tally;

fn run(right: u64, reason: &str) -> Tally {
    let mut tally = Tally {
        runs: 1,
        seconds: 60,
        right,
        lost: 1,
        ..Tally::default()
    };
    tally.told(reason);
    tally.told(reason);
    tally.did("workers killed");
    tally.fault("what was seen".to_owned());
    tally
}

#[test]
fn counts_add_up_over_lines_of_runs() {
    let runs = [run(5, "busy"), run(7, "worker_exited")];
    let lines = runs.map(|run| serde_json::to_string(&run).expect("JSON") + "\n");
    let sum = Tally::of_lines(&lines.concat()).expect("lines of JSON");
    assert_eq!(
        (sum.runs, sum.seconds, sum.right, sum.lost),
        (2, 120, 12, 2)
    );
    assert_eq!(Tally::listed(&sum.told), "busy 2, worker_exited 2");
    assert_eq!(Tally::listed(&sum.disturbances), "workers killed 2");
    assert_eq!(sum.faults, Vec::<String>::new(), "texts are of one run");
}

#[test]
fn a_line_that_is_none_is_no_sum() {
    assert!(Tally::of_lines("{\"runs\":1}\n{\"runs\"").is_err());
    assert_eq!(Tally::of_lines("").expect("none yet"), Tally::default());
}

#[test]
fn no_more_texts_are_kept_than_can_be_read() {
    let mut tally = Tally::default();
    (0..1000).for_each(|number| tally.fault(number.to_string()));
    assert_eq!(tally.faults.len(), 20);
}
