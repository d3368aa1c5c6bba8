use std::time::Duration;

use super::*;
use crate::telemetry::TraceLine;

fn load(tenants: u32, calls: u32) -> Load {
    Load {
        tenants,
        skew: 1.0,
        calls,
        length: Duration::from_secs(3600),
        swing: 0.5,
        burst: 5.0,
        think: Duration::from_secs(10),
        takes: Duration::from_millis(100),
        seed: 7,
    }
}

fn setting() -> Setting {
    Setting {
        max_workers: 20,
        max_memory: u64::MAX,
        max_starting: 2,
        idle_timeout: Duration::from_secs(600),
        hibernate_after: Some(Duration::from_secs(30)),
    }
}

fn day() -> Workload {
    synthetic(&load(200, 5_000), vec![Profile::unknown("server")])
}

#[test]
fn a_made_up_day_is_as_asked_and_always_the_same() {
    let day = day();
    let calls = day.calls.len();
    assert!((3_500..6_500).contains(&calls), "{calls}");
    assert!(day.calls.is_sorted_by_key(|call| call.at));
    assert!(
        day.calls
            .iter()
            .all(|call| call.tenant < 200 && call.at < day.length)
    );
    let of_first = day.calls.iter().filter(|call| call.tenant == 0).count();
    assert!(
        of_first > calls / 20,
        "the first is the largest: {of_first}"
    );
    assert_eq!(day, self::day());
}

#[test]
fn every_call_is_served_or_refused_and_the_limits_hold() {
    let day = day();
    for max_memory in [u64::MAX, 400 << 20] {
        let setting = Setting {
            max_memory,
            ..setting()
        };
        let outcome = simulate(&day, &setting);
        assert_eq!(outcome.served + outcome.refused, day.calls.len());
        assert_eq!(outcome.waits.len(), outcome.served);
        assert!(outcome.peak_workers <= setting.max_workers);
        assert!(outcome.starts > 20 && outcome.starts < day.calls.len());
        assert!(outcome.wait(99.0) >= outcome.wait(50.0));
        // What wakes may exceed it for a moment; it is made up for.
        assert!(outcome.peak_memory <= setting.max_memory.saturating_mul(2));
    }
}

#[test]
fn more_workers_start_less_and_sleeping_ones_hold_less() {
    let day = day();
    let few = simulate(
        &day,
        &Setting {
            max_workers: 5,
            ..setting()
        },
    );
    let many = simulate(
        &day,
        &Setting {
            max_workers: 200,
            ..setting()
        },
    );
    assert!(
        few.starts > many.starts,
        "{} and {}",
        few.starts,
        many.starts
    );
    assert!(few.evictions > 0 && many.evictions == 0);
    let awake = Setting {
        hibernate_after: None,
        max_workers: 200,
        ..setting()
    };
    let awake = simulate(&day, &awake);
    assert!(awake.peak_memory > 2 * many.peak_memory);
    assert!(many.woken > 0 && awake.woken == 0);
    assert_eq!(awake.starts, many.starts, "sleep costs no start");
}

#[test]
fn settings_are_simulated_side_by_side_in_their_order() {
    let grid = Grid {
        max_workers: vec![5, 50],
        max_memory: vec![u64::MAX],
        max_starting: vec![1, 2],
        idle_timeout: vec![Duration::from_secs(60)],
        hibernate_after: vec![None],
    };
    let (day, settings) = (day(), grid.settings());
    let outcomes = simulate_all(&day, &settings);
    for (setting, outcome) in settings.iter().zip(&outcomes) {
        assert_eq!(*outcome, simulate(&day, setting));
    }
    let goal = Goal {
        p99_wait: Duration::from_secs(5),
    };
    let report = render(&outcomes, goal);
    assert_eq!(
        report.lines().filter(|line| line.starts_with("* ")).count(),
        2,
        "{report}"
    );
    assert!(report.contains("[pool]\nmax_workers = "), "{report}");
    let hours = 1.0;
    assert_eq!(svg(&outcomes, hours).matches("<polyline").count(), 4);
    let page = html("a < b & c", &outcomes, hours);
    assert!(page.contains("a &lt; b &amp; c") && page.contains("<svg"));
}

#[test]
fn the_recommended_setting_can_be_pasted_into_pool_toml() {
    let outcomes = simulate_all(&day(), &[setting()]);
    let report = render(
        &outcomes,
        Goal {
            p99_wait: Duration::from_secs(60),
        },
    );
    let toml = &report[report.find("[pool]").expect("there")..];
    let text = format!("{toml}[servers.a]\ncommand = \"a\"\n");
    crate::config::parse(&text, "pool.toml", std::path::Path::new("/")).expect("valid");
}

#[test]
fn a_trace_is_read_as_it_was_written() {
    let lines = [
        TraceLine::Trace { version: 1 },
        TraceLine::Start {
            server: "a".into(),
            took: 0.5,
        },
        TraceLine::Memory {
            server: "a".into(),
            bytes: 40 << 20,
            asleep: false,
        },
        TraceLine::Memory {
            server: "a".into(),
            bytes: 4 << 20,
            asleep: true,
        },
        TraceLine::Call {
            at: 2.0,
            tenant: "x".into(),
            server: "a".into(),
            took: 0.1,
        },
        TraceLine::Call {
            at: 1.0,
            tenant: "y".into(),
            server: "b".into(),
            took: 0.2,
        },
    ];
    let mut text: String = lines
        .iter()
        .map(|line| serde_json::to_string(line).expect("JSON") + "\n")
        .collect();
    text += r#"{"what":"call","at":3.0,"ten"#;
    let workload = read_trace(text.as_bytes()).expect("read");
    assert_eq!(workload.tenants, 2);
    let [first, second] = workload.calls[..] else {
        panic!("{workload:?}")
    };
    assert_eq!(
        (first.at, first.takes),
        (Duration::from_secs(1), Duration::from_millis(200))
    );
    assert_eq!(second.server, 0);
    let a = &workload.servers[0];
    assert_eq!(
        (a.start, a.awake, a.asleep),
        (Duration::from_millis(500), 40 << 20, 4 << 20)
    );
    assert_eq!(workload.servers[1], Profile::unknown("b"));

    for (text, why) in [
        ("", "no call"),
        ("{\"what\":\"trace\",\"version\":2}\n", "version 2"),
        ("hello\n{}\n", "line 1"),
    ] {
        let error = read_trace(text.as_bytes())
            .expect_err("refused")
            .to_string();
        assert!(error.contains(why), "{error}");
    }
}
