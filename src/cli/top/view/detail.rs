//! One worker, and the end of what it wrote.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::detail::{Detail, Following};
use super::super::model::Model;
use super::super::theme::{Theme, Tone};
use super::line::{Pieces, wrapped};
use crate::cli::table::{age, size};
use crate::counted::counted;

/// Lines that the command or the environment may take.
const MAX_WRAPPED: usize = 3;

/// Draws what is known of the worker above what it writes.
pub(super) fn render(
    frame: &mut Frame<'_>,
    area: Rect,
    model: &Model,
    detail: &Detail,
    theme: Theme,
) {
    let facts = facts(model, detail, theme, usize::from(area.width));
    let most = usize::from(area.height / 2);
    let height = u16::try_from(facts.len().min(most)).unwrap_or(0);
    let parts = [
        Constraint::Length(height),
        Constraint::Length(1),
        Constraint::Fill(1),
    ];
    let [top, heading, below] = Layout::vertical(parts).areas(area);
    frame.render_widget(Paragraph::new(facts), top);
    frame.render_widget(Paragraph::new(heading_of(detail, theme)), heading);
    let lines = newest(detail, usize::from(below.width), usize::from(below.height));
    frame.render_widget(Paragraph::new(lines), below);
}

fn facts(model: &Model, detail: &Detail, theme: Theme, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![];
    let about = |label: &str| Pieces::about(theme, label);
    let Some(worker) = &detail.worker else {
        return vec![about("worker").plain(detail.id.to_string()).line()];
    };
    let state = match (&detail.following, model.worker(detail.id)) {
        (Following::Over(_), _) | (_, None) => (Tone::Bad, "gone"),
        (_, Some(worker)) => (Tone::Good, worker.state.as_str()),
    };
    lines.push(
        about("worker")
            .add(Tone::Heading, detail.id.to_string())
            .plain(format!(
                " of server {} for tenant {}: ",
                worker.server, worker.tenant
            ))
            .add(state.0, state.1)
            .line(),
    );
    if let Following::Over(Some(how)) = &detail.following {
        lines.push(about("end").add(Tone::Bad, how.to_string()).line());
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    lines.push(
        about("life")
            .plain(format!(
                "age {}  idle {}  {} in flight  {} requests{}",
                age(worker.age),
                or_dash(worker.idle.map(age)),
                worker.in_flight,
                worker.requests,
                if worker.is_pinned { "  pinned" } else { "" }
            ))
            .line(),
    );
    lines.push(
        about("process")
            .plain(format!(
                "{}  memory {}  {} lines on stderr",
                or_dash(worker.pid.map(|pid| pid.to_string())),
                or_dash(worker.memory.map(size)),
                worker.stderr_lines
            ))
            .line(),
    );
    if let Some(start) = &detail.start {
        let callers = if start.is_callers {
            " (a caller's values)"
        } else {
            ""
        };
        let command = format!("{}{callers}", start.command);
        lines.extend(several("started", &command, width, theme));
        lines.push(about("folder").plain(start.folder.to_string()).line());
        lines.extend(several("variables", start.env.as_str(), width, theme));
    }
    lines
}

/// A text that may take some lines.
fn several(label: &str, text: &str, width: usize, theme: Theme) -> Vec<Line<'static>> {
    const INDENT: usize = 10;
    let pieces = wrapped(text, width.saturating_sub(INDENT).max(1));
    let is_cut = pieces.len() > MAX_WRAPPED;
    let last = pieces.len().min(MAX_WRAPPED) - 1;
    let line = |(at, piece): (usize, &str)| {
        let label = if at == 0 { label } else { "" };
        let more = if is_cut && at == last { "…" } else { "" };
        let pieces = Pieces::new(theme).add(Tone::Label, format!("{label:<10}"));
        pieces.plain(piece.to_owned()).plain(more).line()
    };
    let shown = pieces.into_iter().take(MAX_WRAPPED).enumerate();
    shown.map(line).collect()
}

fn heading_of(detail: &Detail, theme: Theme) -> Line<'static> {
    let pieces = Pieces::new(theme).add(Tone::Heading, "stderr");
    let pieces = match &detail.following {
        Following::Live => pieces.plain(", live"),
        Following::Over(_) => pieces.plain(", to its end"),
        Following::Lost(why) => {
            let said = format!(" cannot be followed now: {why}");
            pieces.add(Tone::Bad, said)
        }
    };
    match detail.below {
        0 => pieces,
        below => pieces.add(
            Tone::Changing,
            format!("  ({} below: End shows them)", counted(below, "newer line")),
        ),
    }
    .line()
}

/// The lines that end at the bottom of the screen, wrapped: only those that fit are looked at.
fn newest(detail: &Detail, width: usize, height: usize) -> Vec<Line<'static>> {
    let mut rows: Vec<Line<'static>> = vec![];
    let until = detail.lines.len().saturating_sub(detail.below);
    for line in detail.lines.range(..until).rev() {
        let pieces = wrapped(line.as_str(), width);
        let pieces = pieces.into_iter().rev().map(str::to_owned);
        rows.extend(pieces.map(Line::from));
        if rows.len() >= height {
            break;
        }
    }
    rows.truncate(height);
    rows.reverse();
    rows
}
