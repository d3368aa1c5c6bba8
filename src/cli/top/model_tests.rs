//! The model through keys and answers; no terminal, no clock, no supervisor.

use std::time::{Duration, Instant};

use super::key::{Input, Key};
use super::listing::{Kind, Subject};
use super::model::{Act, Binding, Effect, Event, Model, Prompt, Watched};
use crate::admin::tests::Fake;
use crate::admin::{LongestWait, StartRow, Status, Supervisor, WorkerRow};
use crate::ids::{ServerName, TenantId, WorkerId};
use crate::telemetry::labels::WorkerState;

/// A model and its time.
pub(super) struct Bench {
    pub(super) model: Model,
    pub(super) now: Instant,
}

pub(super) fn status() -> Status {
    Status {
        queue_depth: 0,
        longest_wait: None,
        circuits: vec![],
        ..Fake::default().status()
    }
}

/// A worker, with so many MiB.
pub(super) fn worker(id: u64, server: &str, tenant: &str, mib: u64) -> WorkerRow {
    WorkerRow {
        id: WorkerId(id),
        server: ServerName::new(server),
        tenant: TenantId::new(tenant),
        state: WorkerState::Idle,
        in_flight: 0,
        idle_seconds: Some(5.0),
        memory_bytes: Some(mib << 20),
        ..Fake::default().workers(false).remove(0)
    }
}

pub(super) fn three() -> Vec<WorkerRow> {
    vec![
        worker(1, "github", "acme", 30),
        worker(2, "time", "globex", 90),
        WorkerRow {
            state: WorkerState::Busy,
            in_flight: 2,
            ..worker(3, "github", "globex", 60)
        },
    ]
}

impl Bench {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let model = Model::new(now, "http://127.0.0.1:9090/", status(), vec![]);
        Self { model, now }
    }

    /// One that was told of these workers.
    pub(super) fn with(workers: Vec<WorkerRow>) -> Self {
        let mut bench = Self::new();
        bench.polled(status(), workers);
        bench
    }

    pub(super) fn on(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = vec![];
        self.now += Duration::from_millis(10);
        self.model.on(self.now, event, &mut effects);
        effects
    }

    pub(super) fn polled(&mut self, status: Status, workers: Vec<WorkerRow>) -> Vec<Effect> {
        self.on(Event::Polled(Box::new(status), workers))
    }

    pub(super) fn press(&mut self, key: Key) -> Vec<Effect> {
        self.on(Event::Input(Input::Key(key)))
    }

    pub(super) fn typed(&mut self, text: &str) -> Vec<Effect> {
        text.chars()
            .flat_map(|c| self.press(Key::Char(c)))
            .collect()
    }

    fn notice(&self) -> String {
        let notice = self.model.current_notice();
        notice.map(ToString::to_string).unwrap_or_default()
    }

    /// The first cell of each row.
    fn rows(&self) -> Vec<String> {
        let rows = self.model.listing.rows.iter();
        rows.map(|row| row.values[0].shown()).collect()
    }
}

#[test]
fn the_largest_are_first_and_any_column_sorts_both_ways() {
    let mut bench = Bench::with(three());
    assert_eq!(bench.rows(), ["w2", "w3", "w1"], "by memory");
    assert!(bench.model.listing.is_descending());
    bench.typed("i");
    assert_eq!(bench.rows(), ["w1", "w3", "w2"]);
    // Behind the last column comes the first.
    bench.typed(">");
    assert_eq!(bench.rows(), ["w1", "w2", "w3"], "by worker");
    assert!(!bench.model.listing.is_descending());
    bench.typed(">");
    assert_eq!(bench.rows(), ["w1", "w3", "w2"], "by server");
    bench.typed("i");
    assert_eq!(bench.rows(), ["w2", "w1", "w3"]);
    bench.typed("<<");
    assert_eq!(bench.rows(), ["w2", "w3", "w1"], "by memory again");
}

#[test]
fn a_chosen_worker_stays_selected_wherever_it_goes() {
    let mut bench = Bench::with(three());
    let current = |bench: &Bench| bench.model.current_worker().map(|id| id.0);
    assert_eq!(current(&bench), Some(2));
    bench.polled(
        status(),
        vec![worker(1, "a", "b", 30), worker(2, "a", "b", 1)],
    );
    assert_eq!(current(&bench), Some(1), "the first is the first");
    bench.press(Key::Down);
    assert_eq!(current(&bench), Some(2));
    bench.polled(
        status(),
        vec![worker(1, "a", "b", 30), worker(2, "a", "b", 99)],
    );
    assert_eq!(current(&bench), Some(2));
    bench.press(Key::End);
    assert_eq!(current(&bench), Some(1));
    bench.polled(status(), three());
    assert_eq!(current(&bench), Some(1));
    // Whatever takes its place when it is gone.
    bench.polled(
        status(),
        vec![worker(2, "a", "b", 1), worker(3, "a", "b", 9)],
    );
    assert_eq!(current(&bench), Some(2));
    bench.polled(status(), vec![]);
    assert_eq!(current(&bench), None);
    for key in [
        Key::Up,
        Key::Down,
        Key::PageDown,
        Key::Home,
        Key::End,
        Key::Enter,
    ] {
        assert_eq!(bench.press(key), []);
    }
}

#[test]
fn a_filter_takes_text_and_nothing_else_while_it_is_typed() {
    let mut bench = Bench::with(three());
    assert_eq!(bench.typed("/glob"), []);
    assert_eq!(bench.rows(), ["w2", "w3"], "as it is typed");
    // `s` and `q` are letters here; a pasted line end is none.
    bench.on(Event::Input(Input::Pasted("\u{1b}ex\n".into())));
    bench.typed(" busyq");
    assert_eq!(bench.rows(), Vec::<String>::new());
    bench.press(Key::Backspace);
    bench.press(Key::Enter);
    assert_eq!(bench.rows(), ["w3"]);
    assert_eq!(bench.model.listing.filter, "globex busy");
    bench.typed("/x");
    bench.press(Key::Escape);
    assert_eq!(bench.model.listing.filter, "globex busy", "as before");
    bench.press(Key::Escape);
    assert_eq!(bench.rows().len(), 3);
    for (filter, rows) in [
        ("GITHUB", vec!["w3", "w1"]),
        ("w1", vec!["w1"]),
        ("tenant:acme", vec!["w1"]),
        ("tenant:acm", vec![]),
        ("server:github tenant:globex", vec!["w3"]),
    ] {
        bench.typed("/");
        bench.press(Key::Ctrl('u'));
        bench.typed(filter);
        bench.press(Key::Enter);
        assert_eq!(bench.rows(), rows, "{filter}");
    }
    bench.typed("/");
    bench.typed(&"x".repeat(1_000));
    assert!(bench.model.listing.filter.len() < 100);
}

#[test]
fn servers_and_tenants_are_ranked_by_what_they_use() {
    let mut bench = Bench::with(three());
    bench.press(Key::Tab);
    assert_eq!(bench.model.listing.kind, Kind::Servers);
    // 30 + 60 MiB and 90 MiB: by name.
    assert_eq!(bench.rows(), ["github", "time"]);
    bench.press(Key::Tab);
    assert_eq!(bench.rows(), ["globex", "acme"]);
    let first = &bench.model.listing.rows[0].values;
    let first: Vec<_> = first.iter().map(|value| value.shown()).collect();
    assert_eq!(first, ["globex", "2", "1", "2", "6", "150.0MiB"]);
    // Neither is a worker.
    bench.typed("s");
    assert!(bench.model.prompt.is_none() && bench.notice().contains("choose a worker"));
    bench.press(Key::Enter);
    assert_eq!(bench.model.listing.kind, Kind::Workers);
    assert_eq!(bench.model.listing.filter, "tenant:globex");
    assert_eq!(bench.rows(), ["w2", "w3"]);
    bench.press(Key::BackTab);
    assert_eq!(bench.model.listing.kind, Kind::Tenants);
}

#[test]
fn an_act_is_carried_out_once_it_is_confirmed_and_on_the_worker_that_was_asked_for() {
    let mut bench = Bench::with(three());
    for no in [Key::Char('n'), Key::Enter, Key::Escape, Key::Char('s')] {
        assert_eq!(bench.typed("s"), []);
        let asked = Some(Prompt::Confirm(Act::Stop, WorkerId(2)));
        assert_eq!(bench.model.prompt, asked);
        assert_eq!(bench.press(no), [], "{no:?}");
        assert_eq!(bench.notice(), "nothing was done");
    }
    bench.typed("r");
    // Another worker is the first meanwhile.
    bench.polled(
        status(),
        vec![worker(9, "a", "b", 999), worker(2, "a", "b", 1)],
    );
    let act = Effect::Act(Act::Restart, WorkerId(2));
    assert_eq!(bench.typed("y"), [act]);
    bench.on(Event::Acted(Ok("restarting w2\x1b[2J".into())));
    assert_eq!(bench.notice(), r"restarting w2\x1b[2J");
    // Pasted text confirms nothing.
    bench.typed("s");
    assert_eq!(bench.on(Event::Input(Input::Pasted("y".into()))), []);
    assert!(bench.model.prompt.is_some());
    assert_eq!(bench.press(Key::Ctrl('c')), [Effect::Quit]);
}

#[test]
fn one_worker_is_looked_at_to_its_end() {
    let mut bench = Bench::with(three());
    bench.press(Key::Down);
    let watch = bench.press(Key::Enter);
    let [Effect::Watch(WorkerId(3), serial)] = watch[..] else {
        panic!("{watch:?}");
    };
    bench.on(Event::Watched(serial + 7, Watched::Line("stale".into())));
    bench.on(Event::Watched(serial, Watched::Line("a\x1b[31mb".into())));
    bench.on(Event::Watched(serial, Watched::Missed("12".into())));
    let start = StartRow {
        program: "npx".into(),
        args: vec!["[redacted]".into()],
        env: vec![],
        cwd: "/".into(),
        is_callers: false,
    };
    bench.on(Event::Watched(serial, Watched::Start(start)));
    let lines = |bench: &Bench| {
        let detail = bench.model.detail.as_ref().expect("it is looked at");
        let lines = detail.lines.iter();
        lines.map(|line| line.to_string()).collect::<Vec<_>>()
    };
    let missed = "(12 lines came too fast and were left out)";
    assert_eq!(lines(&bench), [r"a\x1b[31mb", missed]);
    // A stream that breaks is asked for again with the next answer.
    bench.on(Event::Watched(serial, Watched::Lost("broken".into())));
    let again = bench.polled(status(), three());
    let [Effect::Watch(WorkerId(3), next)] = again[..] else {
        panic!("{again:?}");
    };
    assert!(next != serial && lines(&bench).is_empty());
    assert_eq!(bench.polled(status(), three()), []);
    let how = Some("w3 ended at 14:02 UTC (exit 1)".into());
    bench.on(Event::Watched(next, Watched::Over(how)));
    assert_eq!(bench.polled(status(), vec![]), []);
    bench.typed("r");
    assert_eq!(bench.notice(), "w3 is gone");
    assert_eq!(bench.press(Key::Escape), [Effect::Unwatch]);
    assert!(bench.model.detail.is_none());
}

#[test]
fn a_supervisor_that_goes_and_comes_back_is_told_of() {
    let mut bench = Bench::with(three());
    bench.press(Key::Enter);
    bench.on(Event::Unanswered("connection refused".into()));
    bench.on(Event::Unanswered("no answer within 5s".into()));
    let why = bench.model.lost.as_ref().map(ToString::to_string);
    assert_eq!(why.as_deref(), Some("no answer within 5s"));
    assert_eq!(bench.model.listing.rows.len(), 3, "what was known stays");
    // The same one.
    bench.polled(status(), three());
    assert!(bench.model.lost.is_none() && bench.model.detail.is_some());
    assert_eq!(bench.notice(), "stdiopool answers again");
    // Another one, whose w3 is another worker.
    bench.on(Event::Unanswered("connection refused".into()));
    bench.typed("s");
    let anew = Status {
        pid: 77,
        ..status()
    };
    assert_eq!(bench.polled(anew, three()), [Effect::Unwatch]);
    assert!(bench.model.detail.is_none() && bench.model.prompt.is_none());
    assert_eq!(bench.notice(), "stdiopool was started anew (process 77)");
    bench.now += Duration::from_secs(60);
    bench.on(Event::Input(Input::Resized(50)));
    assert_eq!(bench.notice(), "");
}

#[test]
fn the_limit_that_binds_is_named() {
    let mut bench = Bench::with(three());
    assert_eq!(bench.model.limit_that_binds(), Binding::None);
    let counters = |evictions: u64| {
        let text = format!("stdiopool_evictions_total{{reason=\"max_memory\"}} {evictions}\n");
        Event::Counted(super::counters::Counters::read(&text))
    };
    // What was counted before is no news.
    bench.on(counters(5));
    assert_eq!(bench.model.limit_that_binds(), Binding::None);
    bench.on(counters(6));
    let binding = bench.model.limit_that_binds();
    assert!(matches!(binding, Binding::Evicts(limit) if limit.as_str() == "max_memory"));
    bench.now += Duration::from_secs(61);
    bench.polled(status(), three());
    assert_eq!(bench.model.limit_that_binds(), Binding::None);
    let mut full = status();
    full.limits.max_workers = full.workers.total();
    bench.polled(full.clone(), three());
    let reached = Binding::Reached("pool.max_workers");
    assert_eq!(bench.model.limit_that_binds(), reached);
    let mut full_of_memory = status();
    full_of_memory.memory_bytes = full_of_memory.limits.max_memory_bytes - 1;
    bench.polled(full_of_memory, three());
    let reached = Binding::Reached("pool.max_memory");
    assert_eq!(bench.model.limit_that_binds(), reached);
    full.longest_wait = Some(LongestWait {
        seconds: 2.0,
        tenant: TenantId::new("acme"),
        server: ServerName::new("github"),
        message: "no worker within 2s (raise `pool.max_workers`)".into(),
    });
    bench.polled(full, three());
    let binding = bench.model.limit_that_binds();
    assert!(matches!(binding, Binding::Waits(why) if why.as_str().contains("max_workers")));
}

#[test]
fn two_thousand_workers_have_one_row_each() {
    let workers: Vec<_> = (0..2_000)
        .map(|id| worker(id, "s", &format!("t{}", id % 100), id))
        .collect();
    let mut bench = Bench::with(workers);
    assert_eq!(bench.model.listing.rows.len(), 2_000);
    bench.press(Key::End);
    let last = Some(&Subject::Worker(WorkerId(0)));
    assert_eq!(bench.model.listing.subject(), last);
    bench.press(Key::Tab);
    bench.press(Key::Tab);
    assert_eq!(bench.model.listing.rows.len(), 100);
}
