//! The table.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Rect};
use ratatui::text::Text;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::super::listing::{Column, Content, Kind, Listing, Value, window};
use super::super::theme::{Theme, Tone};
use crate::telemetry::labels::WorkerState;

/// Between columns.
const GAP: u16 = 1;

/// Draws the rows that there is room for, under their titles.
pub(super) fn render(frame: &mut Frame<'_>, area: Rect, listing: &Listing, theme: Theme) {
    let columns = fitting(listing.kind.columns(), area.width);
    let height = usize::from(area.height.saturating_sub(1));
    let selected = listing.selected().unwrap_or(0);
    let shown = window(listing.rows.len(), selected, height);
    let rows = listing.rows[shown.clone()].iter().zip(shown);
    let rows = rows.map(|(row, at)| {
        let cells = columns.iter().map(|(index, column)| {
            let value = &row.values[*index];
            aligned(value.shown(), column).style(theme.style(tone(value)))
        });
        let style = match listing.selected() == Some(at) {
            true => theme.style(Tone::Selected),
            false => theme.style(Tone::Plain),
        };
        Row::new(cells.collect::<Vec<_>>()).style(style)
    });
    let titles = columns.iter().map(|(index, column)| {
        let is_sorted = listing.sort().column == *index;
        let mark = match (is_sorted, listing.is_descending()) {
            (false, _) => "",
            (true, true) => "▼",
            (true, false) => "▲",
        };
        aligned(format!("{}{mark}", column.title), column)
    });
    let header = Row::new(titles.collect::<Vec<_>>()).style(theme.style(Tone::Heading));
    let widths = columns.iter().map(|(_, column)| match column.content {
        Content::Names => Constraint::Fill(1),
        Content::Words | Content::Numbers => Constraint::Length(column.width),
    });
    let table = Table::new(rows, widths).header(header).column_spacing(GAP);
    frame.render_widget(table, area);
    if listing.rows.is_empty() {
        let below = Rect {
            y: area.y + 1,
            height: area.height.saturating_sub(1),
            ..area
        };
        frame.render_widget(Paragraph::new(nothing(listing)), below);
    }
}

/// What is said in place of rows.
fn nothing(listing: &Listing) -> &'static str {
    match (listing.filter.is_empty(), listing.kind) {
        (false, _) => "no worker has all words of the filter (Esc shows all)",
        (true, Kind::Workers | Kind::Servers | Kind::Tenants) => {
            "no workers now; one is started when a request first needs it"
        }
    }
}

/// The columns that there is room for, with their indices.
fn fitting(columns: &'static [Column], width: u16) -> Vec<(usize, &'static Column)> {
    let mut fitting: Vec<_> = columns.iter().enumerate().collect();
    let needed = |columns: &[(usize, &Column)]| -> u16 {
        columns.iter().map(|(_, it)| it.width + GAP).sum::<u16>() - GAP
    };
    while needed(&fitting) > width {
        let first_to_go = fitting.iter().map(|(_, it)| it.dispensable).max();
        let Some(rank) = first_to_go.filter(|rank| *rank > 0) else {
            break;
        };
        fitting.retain(|(_, it)| it.dispensable != rank);
    }
    fitting
}

fn aligned(text: String, column: &Column) -> Cell<'static> {
    let alignment = match column.content {
        Content::Names | Content::Words => Alignment::Left,
        Content::Numbers => Alignment::Right,
    };
    Cell::from(Text::from(text).alignment(alignment))
}

fn tone(value: &Value) -> Tone {
    match value {
        Value::State(WorkerState::Busy) => Tone::Good,
        Value::State(WorkerState::Spare | WorkerState::Hibernated) => Tone::Quiet,
        Value::State(WorkerState::Starting | WorkerState::Draining | WorkerState::Stopping) => {
            Tone::Changing
        }
        Value::State(WorkerState::Idle)
        | Value::Worker(_)
        | Value::Text(_)
        | Value::Count(_)
        | Value::Age(_)
        | Value::Size(_) => Tone::Plain,
    }
}
