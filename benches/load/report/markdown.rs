//! For documents.

use std::fmt::Write;

use super::{Column, Facts, Section, Table};

/// The title and what the figures depend on.
pub(crate) fn markdown_head(facts: &Facts) -> String {
    let mut out = "# stdiopool measured\n\n| | |\n| --- | --- |\n".to_owned();
    for fact in &facts.0 {
        _ = writeln!(out, "| {} | {} |", fact.title, escaped(&fact.shown()));
    }
    out
}

/// A section.
pub(crate) fn markdown(section: &Section) -> String {
    let mut out = format!("\n## {}: {}\n", section.name, section.title);
    if !section.notes.is_empty() {
        out.push('\n');
    }
    for note in &section.notes {
        _ = writeln!(out, "- {note}");
    }
    for shown in section.tables.iter().filter(|table| !table.is_empty()) {
        if !shown.title.is_empty() {
            _ = writeln!(out, "\n{}:", shown.title);
        }
        out.push('\n');
        table(shown, &mut out);
    }
    for failure in &section.failures {
        _ = writeln!(out, "\n**Failed:** {failure}");
    }
    out
}

fn table(table: &Table, out: &mut String) {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    out.push_str(&line(table.columns.iter().map(Column::heading).collect()));
    let ruler = |column: &Column| if column.is_number { "---:" } else { "---" }.to_owned();
    out.push_str(&line(table.columns.iter().map(ruler).collect()));
    for row in &table.rows {
        let cells = row.iter().zip(&table.columns);
        let shown = cells.map(|(cell, column)| escaped(&cell.shown(column.decimals)));
        out.push_str(&line(shown.collect()));
    }
}

/// A text in one cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
