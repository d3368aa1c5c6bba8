//! Memory over time as a picture.

use std::fmt::Write as _;

use super::report::{short, size};
use super::simulate::Outcome;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 360.0;
/// Room for the names of the axes.
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const COLOURS: [&str; 8] = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5",
];

/// A page with the table and the picture, for a browser.
pub fn html(table: &str, outcomes: &[Outcome], hours: f64) -> String {
    let escaped = table.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>stdiopool tune</title>\n\
         <body style=\"max-width:72rem;margin:2rem auto;font-family:sans-serif\">\n<h1>stdiopool tune</h1>\n\
         <pre>{escaped}</pre>\n{}</body></html>\n",
        svg(outcomes, hours)
    )
}

/// An SVG with a curve for each outcome.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
pub fn svg(outcomes: &[Outcome], hours: f64) -> String {
    let peak = outcomes
        .iter()
        .flat_map(|outcome| outcome.memory.iter().copied())
        .max()
        .unwrap_or(1)
        .max(1);
    let legend = 18.0 * outcomes.len() as f64;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
"#,
        HEIGHT + legend + 10.0
    );
    let (right, base) = (WIDTH - 20.0, HEIGHT - BOTTOM);
    let x = |part: f64| LEFT + part * (right - LEFT);
    let y = |bytes: f64| base - bytes / peak as f64 * (base - 20.0);
    for quarter in 0..=4_u32 {
        let part = f64::from(quarter) / 4.0;
        let bytes = peak / 4 * u64::from(quarter);
        let _in_memory = writeln!(
            svg,
            r##"<line x1="{LEFT}" x2="{right}" y1="{0:.1}" y2="{0:.1}" stroke="#ddd"/><text x="{1:.0}" y="{2:.1}" text-anchor="end">{3}</text><text x="{4:.1}" y="{5:.0}" text-anchor="middle">{6:.1} h</text>"##,
            y(bytes as f64),
            LEFT - 6.0,
            y(bytes as f64) + 4.0,
            size(bytes),
            x(part),
            base + 18.0,
            hours * part,
        );
    }
    for (n, outcome) in outcomes.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let last = outcome.memory.len().saturating_sub(1).max(1) as f64;
        let points: Vec<_> = outcome
            .memory
            .iter()
            .enumerate()
            .map(|(at, bytes)| format!("{:.1},{:.1}", x(at as f64 / last), y(*bytes as f64)))
            .collect();
        let setting = &outcome.setting;
        let line = HEIGHT + 14.0 + 18.0 * n as f64;
        let _in_memory = writeln!(
            svg,
            r#"<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{}"/><rect x="{LEFT}" y="{:.0}" width="12" height="4" fill="{colour}"/><text x="{:.0}" y="{line:.0}">{} workers, {} memory, idle {}, hibernate {}: p99 wait {}, {:.2} % cold</text>"#,
            points.join(" "),
            line - 6.0,
            LEFT + 18.0,
            setting.max_workers,
            size(setting.max_memory),
            short(setting.idle_timeout),
            setting.hibernate_after.map_or("never".to_owned(), short),
            short(outcome.wait(99.0)),
            outcome.cold_start_rate() * 100.0,
        );
    }
    svg += "</svg>\n";
    svg
}
