//! The last line, and the keys.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::super::listing::Kind;
use super::super::model::{Act, Model, Prompt};
use super::super::theme::{Theme, Tone};
use super::line::Pieces;
use crate::counted::counted;
use crate::ids::WorkerId;

const KEYS: &[(&str, &str)] = &[
    ("Up Down j k", "another row"),
    ("PgUp PgDn", "a page up or down (also Space)"),
    (
        "Home End g G",
        "the first or last row; the first row stays the first",
    ),
    ("< > Left Right", "sort by another column"),
    ("i", "sort the other way round"),
    ("Tab", "workers, servers, tenants"),
    ("/", "filter: words that are in server, tenant or state;"),
    ("", "server:NAME and tenant:NAME are the whole name"),
    (
        "Enter",
        "one worker and its stderr; of a server or tenant: its workers",
    ),
    ("Esc", "back; in the table: no filter"),
    ("s", "stop a worker: what it has in flight fails"),
    ("r", "restart a worker: what it has in flight is finished"),
    ("Ctrl-L", "draw the screen again"),
    ("Ctrl-Z", "back to the shell; fg goes on"),
    ("q Ctrl-C", "end"),
];

/// Draws the keys.
pub(super) fn help(frame: &mut Frame<'_>, area: Rect, theme: Theme) {
    let title = Pieces::new(theme)
        .add(Tone::Heading, "Keys")
        .plain(" (any of them goes back)");
    let mut lines = vec![title.line()];
    lines.extend(KEYS.iter().map(|(key, what)| {
        let pieces = Pieces::new(theme).add(Tone::Label, format!("  {key:<16}"));
        pieces.plain(*what).line()
    }));
    frame.render_widget(Paragraph::new(lines), area);
}

/// Draws what is asked, or what was said last, or the most important keys.
pub(super) fn last_line(frame: &mut Frame<'_>, area: Rect, model: &Model, theme: Theme) {
    let pieces = Pieces::new(theme);
    let line = match &model.prompt {
        Some(Prompt::Filter(_)) => {
            let line = pieces
                .add(Tone::Heading, format!("filter: {}", model.listing.filter))
                .line();
            let x = u16::try_from(line.width()).unwrap_or(u16::MAX);
            let x = area.x.saturating_add(x).min(area.right().saturating_sub(1));
            frame.set_cursor_position(Position { x, y: area.y });
            line
        }
        Some(Prompt::Confirm(act, worker)) => pieces
            .add(Tone::Selected, question(model, *act, *worker))
            .plain(" y: yes, any other key: no")
            .line(),
        Some(Prompt::Help) | None => match model.current_notice() {
            Some(notice) => pieces.add(Tone::Heading, notice.to_string()).line(),
            None => keys(model, theme),
        },
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn question(model: &Model, act: Act, worker: WorkerId) -> String {
    let Some(row) = model.worker(worker) else {
        return format!("{} {worker}, which is gone?", act.name());
    };
    let in_flight = counted(row.in_flight, "request");
    let what_of_them = match (act, row.in_flight) {
        (_, 0) => "it has nothing in flight".to_owned(),
        (Act::Stop, _) => format!("{in_flight} in flight will fail"),
        (Act::Restart, _) => format!("{in_flight} in flight will be finished first"),
    };
    let name = act.name();
    format!(
        "{name} {worker} of {} for {}: {what_of_them}?",
        row.server, row.tenant
    )
}

fn keys(model: &Model, theme: Theme) -> Line<'static> {
    let pieces = Pieces::new(theme);
    if model.detail.is_some() {
        let keys = "Esc back  ? keys  q end  s stop  r restart  Up Down End scroll";
        return pieces.add(Tone::Quiet, keys).line();
    }
    let listing = &model.listing;
    let what = match listing.kind {
        Kind::Workers => counted(listing.rows.len(), "worker"),
        Kind::Servers => counted(listing.rows.len(), "server"),
        Kind::Tenants => counted(listing.rows.len(), "tenant"),
    };
    let pieces = match listing.filter.as_str() {
        "" => pieces.plain(format!("{what}  ")),
        filter => pieces
            .plain(format!("{what} with "))
            .add(Tone::Heading, format!("{filter}  ")),
    };
    let keys = "? keys  q end  Enter look  / filter  < > i sort  Tab group  s stop  r restart";
    pieces.add(Tone::Quiet, keys).line()
}
