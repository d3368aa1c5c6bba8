//! Aligned tables, and numbers as people read them.

use std::borrow::Cow;

use crate::escape;

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Space between columns.
const GAP: &str = "  ";

/// `rows` under `columns`, two spaces between, no spaces at line ends. A cell stays in its line, whoever wrote it.
pub(super) fn render<const N: usize>(columns: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let rows: Vec<[Cow<'_, str>; N]> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| escape::for_log(cell)))
        .collect();
    let mut widths = columns.map(|(title, _)| width(title));
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let mut out = String::new();
    let mut line = |cells: [&str; N]| {
        let mut text = String::new();
        for ((cell, (_, align)), widest) in cells.into_iter().zip(columns).zip(widths) {
            let pad = " ".repeat(widest - width(cell));
            match align {
                Align::Left => text.extend([cell, &pad, GAP]),
                Align::Right => text.extend([&pad, cell, GAP]),
            }
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(columns.map(|(title, _)| title));
    for row in &rows {
        line(row.each_ref().map(|cell| &**cell));
    }
    out
}

/// Characters, which is columns for the names that appear here.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// A span of time in at most two units: `0s`, `59s`, `3m12s`, `2h05m`, `4d03h`.
pub(super) fn age(seconds: f64) -> String {
    // A cast of a float saturates; negative and NaN become 0.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole seconds are wanted"
    )]
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A size in the unit that leaves one to four digits: `512B`, `67.0MiB`, `1.5GiB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes}B")
    } else {
        format!("{value:.1}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a".to_owned(), "1".to_owned(), String::new()],
            ["längerer".to_owned(), "1000".to_owned(), "x".to_owned()],
        ];
        let columns = [
            ("NAME", Align::Left),
            ("N", Align::Right),
            ("", Align::Left),
        ];
        assert_eq!(
            render(columns, &rows),
            "NAME         N\na            1\nlängerer  1000  x\n"
        );
    }

    #[test]
    fn a_cell_cannot_make_a_row_of_its_own() {
        let rows = [["a\nforged".to_owned()]];
        assert_eq!(render([("NAME", Align::Left)], &rows), "NAME\na\\nforged\n");
    }

    #[test]
    fn times_and_sizes_are_short() {
        let times = [
            -1.0,
            0.9,
            59.9,
            60.0,
            3599.0,
            3600.0,
            86399.0,
            90000.0,
            f64::NAN,
        ]
        .map(age);
        assert_eq!(
            times,
            [
                "0s", "0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d01h", "0s"
            ]
        );
        let sizes = [0, 1023, 1024, 67 << 20, 3 << 29, 5 << 50].map(size);
        assert_eq!(
            sizes,
            ["0B", "1023B", "1.0KiB", "67.0MiB", "1.5GiB", "5120.0TiB"]
        );
    }
}
