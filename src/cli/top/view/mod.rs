//! The screen that a model comes to.
//!
//! ```text
//!  summary    the pool at a glance: workers, memory, queue, the limit that binds, starts, refusals, circuits
//!  listing    the table, of which the rows around the selected one are made
//!  detail     one worker, and what it writes
//!  prompts    the last line, and the keys
//! ```
//!
//! Invariants: text of strangers is [`Clean`](super::clean::Clean); a frame depends on nothing but the model, the theme and its size.

mod detail;
mod line;
mod listing;
mod prompts;
mod summary;
#[cfg(test)]
mod tests;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::widgets::Paragraph;

use super::model::{Model, Prompt};
use super::theme::Theme;

/// The smallest screen that has room for anything.
const FEWEST: (u16, u16) = (40, 8);

/// Draws all of it.
pub(super) fn render(frame: &mut Frame<'_>, model: &Model, theme: Theme) {
    let area = frame.area();
    if area.width < FEWEST.0 || area.height < FEWEST.1 {
        let said = format!("at least {}x{} are needed", FEWEST.0, FEWEST.1);
        frame.render_widget(Paragraph::new(said), area);
        return;
    }
    if model.prompt == Some(Prompt::Help) {
        prompts::help(frame, area, theme);
        return;
    }
    let summary = summary::lines(model, theme, area.width);
    // At least half of the screen is for the rest.
    let most = usize::from(area.height / 2);
    let shown = summary.len().min(most);
    let height = u16::try_from(shown).unwrap_or(0);
    let parts = [
        Constraint::Length(height),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [top, middle, bottom] = Layout::vertical(parts).areas(area);
    let summary: Vec<_> = summary.into_iter().take(shown).collect();
    frame.render_widget(Paragraph::new(summary), top);
    match &model.detail {
        Some(view) => detail::render(frame, middle, model, view, theme),
        None => listing::render(frame, middle, &model.listing, theme),
    }
    prompts::last_line(frame, bottom, model, theme);
}
