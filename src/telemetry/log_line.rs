//! Log lines that say of which request they are.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::request_span::RequestSpan;
use crate::escape::LogEscape;

/// The shape of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: one line each, coloured on a terminal.
    #[default]
    Human,
    /// For machines: one JSON object on each line.
    Json,
}

/// Adds the request to each line that is logged while one is served: at the end of those for people, and as the member
/// `request` to those for machines.
pub(super) struct OfRequest<F> {
    pub(super) inner: F,
    pub(super) format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for OfRequest<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(request) = RequestSpan::current() else {
            return self.inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        match (self.format, line.strip_suffix('}')) {
            (LogFormat::Json, Some(open)) => {
                writeln!(writer, "{open},\"request\":{}}}", request.to_json())
            }
            _ => {
                write!(writer, "{line} ")?;
                fmt::Write::write_fmt(&mut LogEscape(&mut writer), format_args!("{request}"))?;
                writeln!(writer)
            }
        }
    }
}
