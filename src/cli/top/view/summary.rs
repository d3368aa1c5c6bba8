//! The pool at a glance, a line for each question.

use ratatui::text::Line;

use super::super::model::{Binding, Model};
use super::super::theme::{Theme, Tone};
use super::line::{Pieces, bar};
use crate::admin::{CircuitRow, SupervisorState, WorkerCounts};
use crate::cli::table::{age, size};
use crate::cli::top::clean::Clean;

/// Circuits and reasons that are named; of others it is said how many there are.
const NAMED: usize = 4;
/// Width of a bar.
const BAR: u16 = 20;

/// The lines, the most important first.
pub(super) fn lines(model: &Model, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let mut lines = vec![title(model, theme)];
    lines.extend(silence(model, theme));
    // A narrow screen has no room for bars.
    let bar_width = if width >= 70 { BAR } else { 0 };
    lines.push(workers(model, theme, bar_width));
    lines.push(memory(model, theme, bar_width));
    lines.push(queue(model, theme));
    lines.push(limit(model, theme));
    lines.extend(circuits(model, theme));
    lines.push(starts(model, theme));
    lines.push(refused(model, theme));
    lines
}

fn title(model: &Model, theme: Theme) -> Line<'static> {
    let status = &model.status;
    let state = match status.state {
        SupervisorState::Ready => (Tone::Good, "ready"),
        SupervisorState::Draining => (Tone::Changing, "draining"),
    };
    let version = Clean::of(&status.version);
    let mut pieces = Pieces::new(theme)
        .add(Tone::Heading, format!("stdiopool {version}"))
        .plain(format!(" at {}  ", model.address))
        .add(state.0, state.1)
        .plain(format!(" for {}", age(status.uptime_seconds)));
    if let Some(config) = &status.config {
        pieces = pieces.plain(format!("  {}", Clean::of(config)));
    }
    pieces.line()
}

/// What is said while nobody answers.
fn silence(model: &Model, theme: Theme) -> Option<Line<'static>> {
    let why = model.lost.as_ref()?;
    let heard = model.now.saturating_duration_since(model.heard);
    let said = format!(
        "not answering for {}, and asked again: {why}",
        age(heard.as_secs_f64())
    );
    Some(Pieces::new(theme).add(Tone::Bad, said).line())
}

/// A bar, with its ends.
fn gauge(pieces: Pieces, part: u64, whole: u64, width: u16) -> Pieces {
    if width == 0 {
        return pieces;
    }
    // The last sixteenth is close to the limit.
    let tone = match whole > 0 && part >= whole - whole / 16 {
        true => Tone::Bad,
        false => Tone::Good,
    };
    pieces
        .plain("[")
        .add(tone, bar(part, whole, width))
        .plain("] ")
}

fn workers(model: &Model, theme: Theme, width: u16) -> Line<'static> {
    let (counts, limits) = (&model.status.workers, &model.status.limits);
    let (total, most) = (counts.total(), limits.max_workers);
    let pieces = Pieces::about(theme, "workers");
    let mut pieces =
        gauge(pieces, total as u64, most as u64, width).plain(format!("{total} of {most}"));
    for (count, name, tone) in by_state(counts) {
        if count > 0 {
            pieces = pieces.plain("  ").add(tone, format!("{count} {name}"));
        }
    }
    pieces.line()
}

fn by_state(counts: &WorkerCounts) -> [(usize, &'static str, Tone); 7] {
    [
        (counts.busy, "busy", Tone::Good),
        (counts.idle, "idle", Tone::Plain),
        (counts.hibernated, "hibernated", Tone::Quiet),
        (counts.spare, "spare", Tone::Quiet),
        (counts.starting, "starting", Tone::Changing),
        (counts.draining, "draining", Tone::Changing),
        (counts.stopping, "stopping", Tone::Changing),
    ]
}

fn memory(model: &Model, theme: Theme, width: u16) -> Line<'static> {
    let (held, most) = (
        model.status.memory_bytes,
        model.status.limits.max_memory_bytes,
    );
    let pieces = Pieces::about(theme, "memory");
    let said = format!("{} of {}", size(held), size(most));
    gauge(pieces, held, most, width).plain(said).line()
}

fn queue(model: &Model, theme: Theme) -> Line<'static> {
    let (status, limits) = (&model.status, &model.status.limits);
    let pieces = Pieces::about(theme, "queue");
    match &status.longest_wait {
        None => pieces.plain("no request waits"),
        Some(wait) => {
            let waiting = format!("{} of {}", status.queue_depth, limits.queue_limit);
            let longest = format!(
                "{:.1}s of {}: tenant {} at {}",
                wait.seconds,
                age(limits.queue_timeout_seconds),
                Clean::of(wait.tenant.as_str()),
                Clean::of(wait.server.as_str()),
            );
            pieces
                .add(Tone::Changing, waiting)
                .plain(format!(" wait, the first for {longest}"))
        }
    }
    .line()
}

fn limit(model: &Model, theme: Theme) -> Line<'static> {
    let pieces = Pieces::about(theme, "limit");
    match model.limit_that_binds() {
        Binding::None => pieces.plain("none binds"),
        Binding::Draining => pieces.add(
            Tone::Changing,
            "it takes no new requests and ends with those it has",
        ),
        Binding::Waits(why) => pieces.add(Tone::Bad, why.to_string()),
        Binding::Evicts(limit) => pieces
            .add(Tone::Bad, limit.to_string())
            .plain(": idle workers were stopped in the last minute so that others could start"),
        Binding::Reached(key) => pieces
            .add(Tone::Bad, key)
            .plain(" is reached: what starts next makes an idle worker go, or waits"),
    }
    .line()
}

fn circuits(model: &Model, theme: Theme) -> Option<Line<'static>> {
    let circuits = &model.status.circuits;
    if circuits.is_empty() {
        return None;
    }
    let said: Vec<_> = circuits.iter().take(NAMED).map(circuit).collect();
    let pieces = Pieces::about(theme, "circuits").add(Tone::Bad, said.join("; "));
    Some(pieces.plain(beyond(circuits.len())).line())
}

/// For whom a server's starts are left alone, and how long.
fn circuit(row: &CircuitRow) -> String {
    let server = Clean::of(row.server.as_str());
    let whom = match &row.tenant {
        None => "everyone".to_owned(),
        Some(tenant) if row.configuration => {
            format!("a configuration of {}", Clean::of(tenant.as_str()))
        }
        Some(tenant) => Clean::of(tenant.as_str()).to_string(),
    };
    let next = age(row.retry_in_seconds);
    format!("{server} fails to start for {whom}, tried again in {next}")
}

fn starts(model: &Model, theme: Theme) -> Line<'static> {
    let counters = &model.counters;
    let mut pieces = Pieces::about(theme, "starts").plain(format!(
        "{} cold  {} primed  {} from spares  {} woken",
        counters.cold(),
        counters.primed,
        counters.adopted,
        counters.woken
    ));
    if counters.failed > 0 {
        pieces = pieces
            .plain("  ")
            .add(Tone::Bad, format!("{} failed", counters.failed));
    }
    pieces.line()
}

fn refused(model: &Model, theme: Theme) -> Line<'static> {
    let mut reasons: Vec<_> = model.counters.rejections.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let pieces = Pieces::about(theme, "refused");
    if reasons.is_empty() {
        return pieces.plain("nothing").line();
    }
    let said: Vec<_> = (reasons.iter().take(NAMED))
        .map(|(reason, count)| format!("{count} {}", Clean::of(reason)))
        .collect();
    let more = beyond(reasons.len());
    pieces.plain(said.join("  ")).plain(more).line()
}

/// How many there are beside those that are named.
fn beyond(all: usize) -> String {
    match all.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("  and {more} more"),
    }
}
