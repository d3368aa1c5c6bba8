//! For reading while it runs.

use std::fmt::Write;

use super::{Column, Facts, Section, Table};

/// What the figures depend on.
pub(crate) fn terminal_head(facts: &Facts) -> String {
    let width = facts.0.iter().map(|fact| fact.title.chars().count()).max();
    let mut out = String::new();
    for fact in &facts.0 {
        let width = width.unwrap_or(0);
        _ = writeln!(out, "{:<width$}  {}", fact.title, fact.shown());
    }
    out
}

/// A section.
pub(crate) fn terminal(section: &Section) -> String {
    let mut out = format!("\n{}: {}\n", section.name, section.title);
    for note in &section.notes {
        _ = writeln!(out, "  {note}");
    }
    for shown in section.tables.iter().filter(|table| !table.is_empty()) {
        out.push('\n');
        if !shown.title.is_empty() {
            _ = writeln!(out, "{}:", shown.title);
        }
        table(shown, &mut out);
    }
    for failure in &section.failures {
        _ = writeln!(out, "\nFAILED: {failure}");
    }
    out
}

fn table(table: &Table, out: &mut String) {
    let headings: Vec<_> = table.columns.iter().map(Column::heading).collect();
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|row| {
            let cells = row.iter().zip(&table.columns);
            cells
                .map(|(cell, column)| cell.shown(column.decimals))
                .collect()
        })
        .collect();
    let widths: Vec<usize> = (0..headings.len())
        .map(|at| {
            let cells = rows.iter().map(|row| &row[at]);
            let lengths = cells
                .chain([&headings[at]])
                .map(|text| text.chars().count());
            lengths.max().unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&headings).chain(&rows) {
        let mut line = String::new();
        for ((cell, width), column) in row.iter().zip(&widths).zip(&table.columns) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            _ = if column.is_number {
                write!(line, "{cell:>width$}")
            } else {
                write!(line, "{cell:<width$}")
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
