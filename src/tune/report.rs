//! The table, the curve and the advice.

use std::fmt::Write as _;
use std::time::Duration;

use super::setting::Setting;
use super::simulate::Outcome;

/// The goal that a setting has to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goal {
    /// 99 of 100 calls wait no longer than this for a worker.
    pub p99_wait: Duration,
}

/// Characters of a curve, from nothing to all.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The report: a line for each outcome, the curve of memory of the recommended one, and why it is.
pub fn render(outcomes: &[Outcome], goal: Goal) -> String {
    let mut text = String::from(
        "  workers   memory  starting   idle  hibernate   cold/call   woken  wait p50  wait p99  refused  evicted  peak memory  at once\n",
    );
    let best = recommend(outcomes, goal);
    for (at, outcome) in outcomes.iter().enumerate() {
        let setting = &outcome.setting;
        let mark = if best == Some(at) { '*' } else { ' ' };
        let _in_memory = writeln!(
            text,
            "{mark} {:>7} {:>8}  {:>8}  {:>5}  {:>9}  {:>9.3} %  {:>6}  {:>8}  {:>8}  {:>7}  {:>7}  {:>11}  {:>7}",
            setting.max_workers,
            size(setting.max_memory),
            setting.max_starting,
            short(setting.idle_timeout),
            setting.hibernate_after.map_or("never".to_owned(), short),
            outcome.cold_start_rate() * 100.0,
            outcome.woken,
            short(outcome.wait(50.0)),
            short(outcome.wait(99.0)),
            outcome.refused,
            outcome.evictions,
            size(outcome.peak_memory),
            outcome.peak_workers,
        );
    }
    if let Some(best) = best.and_then(|at| outcomes.get(at)) {
        text += &advice(best, goal);
    }
    text
}

/// The setting that meets the goal with the least memory; if none does, the one with the shortest
/// waits.
fn recommend(outcomes: &[Outcome], goal: Goal) -> Option<usize> {
    let meets = |outcome: &Outcome| outcome.refused == 0 && outcome.wait(99.0) <= goal.p99_wait;
    let cheapest = outcomes
        .iter()
        .enumerate()
        .filter(|(_, outcome)| meets(outcome))
        .min_by_key(|(_, outcome)| (outcome.peak_memory, outcome.starts));
    let fastest = || {
        outcomes
            .iter()
            .enumerate()
            .min_by_key(|(_, outcome)| (outcome.refused, outcome.wait(99.0), outcome.peak_memory))
    };
    cheapest.or_else(fastest).map(|(at, _)| at)
}

fn advice(best: &Outcome, goal: Goal) -> String {
    let meets = best.refused == 0 && best.wait(99.0) <= goal.p99_wait;
    let peak = best.memory.iter().copied().max().unwrap_or(0).max(1);
    let curve: String = best
        .memory
        .iter()
        .map(|bytes| {
            let step = usize::try_from(bytes * 7 / peak).unwrap_or(0);
            STEPS[step.min(7)]
        })
        .collect();
    let what = if meets {
        format!(
            "* meets the goal (p99 wait {} or less, nothing refused) with the least memory:",
            short(goal.p99_wait)
        )
    } else {
        format!(
            "* none meets the goal (p99 wait {} or less, nothing refused); this one waits least:",
            short(goal.p99_wait)
        )
    };
    format!(
        "\nmemory over time, up to {}\n{curve}\n\n{what}\n\n{}",
        size(peak),
        toml(&best.setting)
    )
}

fn toml(setting: &Setting) -> String {
    let hibernate = setting.hibernate_after.map_or("never".to_owned(), short);
    format!(
        "[pool]\nmax_workers = {}\nmax_memory = \"{}\"\nmax_starting = {}\nidle_timeout = \"{}\"\nhibernate_after = \"{hibernate}\"\n",
        setting.max_workers,
        if setting.max_memory == u64::MAX {
            "100%".to_owned()
        } else {
            format!("{}MiB", setting.max_memory >> 20)
        },
        setting.max_starting,
        short(setting.idle_timeout),
    )
}

/// A duration as pool.toml takes it, without spaces.
pub(super) fn short(duration: Duration) -> String {
    humantime::format_duration(duration)
        .to_string()
        .replace(' ', "")
}

#[allow(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        u64::MAX => "all".to_owned(),
        _ if bytes >= 1 << 30 => format!("{:.1}GiB", bytes as f64 / f64::from(1 << 30)),
        _ => format!("{:.0}MiB", bytes as f64 / f64::from(1 << 20)),
    }
}
