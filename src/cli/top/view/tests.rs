//! Frames of models, as they are seen.

use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};

use super::super::counters::Counters;
use super::super::key::{Input, Key};
use super::super::listing::window;
use super::super::model::{Effect, Event, Watched};
use super::super::model_tests::{Bench, status, three, worker};
use super::*;
use crate::admin::tests::Fake;
use crate::admin::{LongestWait, StartRow, Supervisor};
use crate::escape;
use crate::ids::{ServerName, TenantId};

fn drawn(bench: &Bench, width: u16, height: u16, theme: Theme) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    let draw = terminal.draw(|frame| render(frame, &bench.model, theme));
    draw.expect("in memory");
    terminal.backend().clone()
}

fn seen(bench: &Bench, width: u16, height: u16) -> String {
    drawn(bench, width, height, Theme::new(true)).to_string()
}

fn counted() -> Event {
    let text = "\
stdiopool_worker_starts_total{outcome=\"ok\",server=\"a\"} 7
stdiopool_worker_starts_total{outcome=\"exited\",server=\"b\"} 2
stdiopool_worker_primed_starts_total{outcome=\"ok\",server=\"a\"} 4
stdiopool_adoption_seconds_count{server=\"a\"} 5
stdiopool_wake_seconds_count{server=\"a\"} 6
stdiopool_rejections_total{reason=\"busy\"} 12
stdiopool_rejections_total{reason=\"circuit_open\"} 3
";
    Event::Counted(Counters::read(text))
}

/// A pool in which a request waits and a circuit is open.
fn troubled() -> Bench {
    let mut bench = Bench::with(three());
    let mut status = status();
    status.queue_depth = 3;
    status.longest_wait = Some(LongestWait {
        seconds: 2.42,
        tenant: TenantId::new("acme"),
        server: ServerName::new("github"),
        message: "no worker for tenant `acme` within 2s (8 of 8 are in use; raise `tenants.acme.max_workers`)".into(),
    });
    status.circuits = Fake::default().status().circuits;
    bench.polled(status, three());
    bench.on(counted());
    bench
}

/// One worker that is looked at.
fn looked_at() -> (Bench, u64) {
    let mut bench = Bench::with(three());
    bench.press(Key::Down);
    let effects = bench.press(Key::Enter);
    let [Effect::Watch(_, serial)] = effects[..] else {
        panic!("{effects:?}");
    };
    let start = StartRow {
        program: "npx".into(),
        args: vec!["-y".into(), "--token=[redacted]".into()],
        env: vec!["HOME".into(), "PATH".into()],
        cwd: "/data".into(),
        is_callers: true,
    };
    bench.on(Event::Watched(serial, Watched::Start(start)));
    for line in [
        "ready",
        "a line that is longer than the screen is wide, and goes on and on in the next",
        "\x1b[31merror\x1b[0m",
    ] {
        bench.on(Event::Watched(serial, Watched::Line(line.into())));
    }
    (bench, serial)
}

#[test]
fn the_pool_at_a_glance() {
    insta::assert_snapshot!(seen(&troubled(), 100, 18));
}

#[test]
fn a_narrow_screen_has_the_columns_that_matter() {
    insta::assert_snapshot!(seen(&troubled(), 60, 14));
}

#[test]
fn an_empty_pool() {
    insta::assert_snapshot!(seen(&Bench::with(vec![]), 80, 12));
}

#[test]
fn one_worker() {
    let (mut bench, serial) = looked_at();
    insta::assert_snapshot!("one_worker", seen(&bench, 70, 24));
    bench.press(Key::Up);
    let how = Some("w3 ended at 14:02 UTC (exit 1)".into());
    bench.on(Event::Watched(serial, Watched::Over(how)));
    bench.on(Event::Unanswered("no stdiopool answers".into()));
    bench.now += Duration::from_secs(75);
    bench.on(Event::Input(Input::Resized(24)));
    insta::assert_snapshot!("one_worker_that_has_ended", seen(&bench, 70, 24));
}

#[test]
fn the_last_line_says_what_is_asked() {
    let mut bench = Bench::with(three());
    let last = |bench: &Bench| {
        let seen = seen(bench, 100, 20);
        let last = seen.lines().last().unwrap_or_default();
        last.trim_matches(['"', ' ']).to_owned()
    };
    assert!(
        last(&bench).starts_with("3 workers  ? keys"),
        "{}",
        last(&bench)
    );
    bench.press(Key::Down);
    bench.typed("s");
    assert_eq!(
        last(&bench),
        "stop w3 of github for globex: 2 requests in flight will fail? y: yes, any other key: no"
    );
    bench.typed("n");
    bench.typed("r");
    let finished = "2 requests in flight will be finished first?";
    assert!(last(&bench).contains(finished), "{}", last(&bench));
    bench.typed("n");
    bench.typed("/acme");
    assert_eq!(last(&bench), "filter: acme");
    bench.press(Key::Enter);
    bench.now += Duration::from_secs(60);
    bench.on(Event::Input(Input::Resized(20)));
    assert!(
        last(&bench).starts_with("1 worker with acme  ? keys"),
        "{}",
        last(&bench)
    );
}

#[test]
fn the_keys() {
    let mut bench = Bench::with(three());
    bench.typed("?");
    insta::assert_snapshot!(seen(&bench, 80, 18));
    bench.typed("q");
    assert!(seen(&bench, 80, 18).contains("WORKER"), "any key goes back");
}

#[test]
fn any_size_is_drawn() {
    let (bench, _) = looked_at();
    for bench in [bench, troubled()] {
        for (width, height) in [(1, 1), (39, 24), (40, 8), (41, 9), (80, 8), (300, 100)] {
            let seen = seen(&bench, width, height);
            let is_small = width < 40;
            assert_eq!(seen.contains("stdiopool 0.0.0"), !is_small, "{seen}");
        }
    }
}

#[test]
fn without_colours_there_are_none() {
    let styles = |theme| {
        let backend = drawn(&troubled(), 100, 20, theme);
        let cells = backend.buffer().content().to_vec();
        let colours = cells
            .iter()
            .any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        let reversed = cells
            .iter()
            .any(|cell| cell.modifier.contains(Modifier::REVERSED));
        (colours, reversed)
    };
    assert_eq!(styles(Theme::new(true)), (true, true));
    assert_eq!(styles(Theme::new(false)), (false, true));
}

#[test]
fn rows_that_are_not_seen_are_not_made() {
    assert_eq!(window(2_000, 0, 10), 0..10);
    assert_eq!(window(2_000, 1_000, 10), 995..1_005);
    assert_eq!(window(2_000, 1_999, 10), 1_990..2_000);
    assert_eq!(window(3, 2, 10), 0..3);
    assert_eq!(window(3, 2, 0), 2..2);
    assert_eq!(window(0, 0, 10), 0..0);
    let workers = (0..2_000).map(|id| worker(id, "s", "t", id)).collect();
    let mut bench = Bench::with(workers);
    for _ in 0..50 {
        bench.press(Key::PageDown);
    }
    let seen = seen(&bench, 100, 24);
    let ids = seen.lines().filter(|line| line.starts_with("\"w")).count();
    assert!((8..24).contains(&ids), "{seen}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Names, errors and lines of strangers, wherever they are shown.
    #[test]
    fn nothing_on_the_screen_acts(text in "(\\PC|[\\x00-\\x1f\u{7f}\u{80}-\u{9f}\u{202e}\u{2066}\u{feff}]){0,40}") {
        let mut bench = Bench::with(vec![worker(1, &text, &text, 1)]);
        let mut hostile = status();
        hostile.version = text.clone();
        hostile.config = Some(text.clone());
        hostile.longest_wait = Some(LongestWait {
            seconds: 1.0,
            tenant: TenantId::new(text.as_str()),
            server: ServerName::new(text.as_str()),
            message: text.clone(),
        });
        hostile.circuits = Fake::default().status().circuits;
        hostile.circuits[0].server = ServerName::new(text.as_str());
        bench.polled(hostile, vec![worker(1, &text, &text, 1)]);
        bench.on(Event::Acted(Err(text.clone())));
        bench.on(Event::Unanswered(text.clone()));
        let harmless = |bench: &Bench| {
            let backend = drawn(bench, 90, 30, Theme::new(true));
            backend.buffer().content().iter().all(|cell| !cell.symbol().contains(escape::acts))
        };
        prop_assert!(harmless(&bench));
        let effects = bench.press(Key::Enter);
        let Some(Effect::Watch(_, serial)) = effects.first() else {
            return Err(TestCaseError::fail("a worker is looked at"));
        };
        for watched in [Watched::Line(text.clone()), Watched::Over(Some(text.clone())), Watched::Lost(text.clone())] {
            bench.on(Event::Watched(*serial, watched));
            prop_assert!(harmless(&bench));
        }
    }
}
