//! What it costs that a request's text is written anew for its worker rather than passed on under another id.

use std::hint::black_box;
use std::time::{Duration, Instant};

use stdiopool::bridge::addressed;
use stdiopool::protocol::{Envelope, span_of, splice};

use super::Result;
use super::report::{Cell, Column, Table};

/// Messages between two looks at the clock.
const BATCH: u32 = 1_000;
/// How often the two ways take turns.
const ROUNDS: usize = 10;

/// A request as clients send it.
struct Message {
    what: &'static str,
    text: String,
}

/// Nanoseconds a message, of both ways by turns; `call` is what a whole small call costs stdiopool, in µs of processor.
pub(crate) fn table(call: Option<f64>) -> Result<Table> {
    let mut table = Table::new(
        "a request's text, passed on under another id and written anew from its members",
        [
            Column::text("request"),
            Column::number("bytes", "", 0),
            Column::number("passed on", "ns", 0),
            Column::number("written anew", "ns", 0),
            Column::number("more, of a small call's CPU", "%", 1),
        ],
    );
    for Message { what, text } in messages() {
        let text = text.as_bytes();
        let round = Duration::from_millis(50);
        let (mut passed, mut anew) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..ROUNDS {
            passed = passed.min(nanos(round, || passed_on(text))?);
            anew = anew.min(nanos(round, || written_anew(text))?);
        }
        let more = call.map_or(Cell::Missing, |call| {
            ((anew - passed) / (call * 1e3) * 100.0).into()
        });
        table.row([
            what.into(),
            text.len().into(),
            passed.into(),
            anew.into(),
            more,
        ]);
    }
    Ok(table)
}

fn messages() -> Vec<Message> {
    let call = |arguments: serde_json::Value, meta: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{{meta}"name":"echo","arguments":{arguments}}}}}"#
        )
    };
    let short = serde_json::json!({ "message": "x".repeat(32) });
    let long = serde_json::json!({ "message": "x".repeat(10_000) });
    let wide: serde_json::Map<_, _> = (0..100)
        .map(|number| (format!("member{number}"), number.into()))
        .collect();
    let with_token = r#""_meta":{"progressToken":17},"#;
    [
        ("call", call(short.clone(), "")),
        ("call with a progress token", call(short, with_token)),
        ("call with a text of 10 kB", call(long, "")),
        ("call with 100 arguments", call(wide.into(), "")),
    ]
    .map(|(what, text)| Message { what, text })
    .into()
}

/// The least that any bridge does: finds the id and puts another in its place.
fn passed_on(text: &[u8]) -> Result<usize> {
    let envelope = Envelope::parse(text)?;
    let id = envelope.id.ok_or("a request has an id")?;
    Ok(splice(text, span_of(text, id.get()), b"4711").len())
}

/// What stdiopool does: checks the names on which it decides, and writes the message from its four members.
fn written_anew(text: &[u8]) -> Result<usize> {
    let envelope = Envelope::parse(text)?;
    match addressed(&envelope)? {
        Some(addressed) => Ok(addressed.message.len()),
        None => Ok(envelope
            .rewritten(Some("4711"), envelope.params.map(|params| params.get()))
            .len()),
    }
}

fn nanos(period: Duration, mut way: impl FnMut() -> Result<usize>) -> Result<f64> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < period {
        for _ in 0..BATCH {
            black_box(way()?);
        }
        count += BATCH;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}
