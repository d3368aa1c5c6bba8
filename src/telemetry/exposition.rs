//! The two formats of a scrape: Prometheus text 0.0.4 and OpenMetrics 1.0.
//!
//! The client library writes the first. OpenMetrics
//! (<https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>) differs where
//! it matters: a counter's family has no `_total`, a unit may be named, numbers in `le` have one
//! canonical form, and `# EOF` proves that nothing was cut off.

use std::fmt::Write;

use prometheus::TextEncoder;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::{Exemplar, Exemplars};

/// Units that a family's name may end with; OpenMetrics names them in a line of their own.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// A format of the scrape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Prometheus,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a scraper that sends `accept` gets: OpenMetrics when it names version 1.0.0 (or no
    /// version) of it and does not like plain text better; plain text in every other case, as
    /// scrapers of old expect.
    pub fn negotiate(accept: &str) -> Self {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut weight, mut version) = (1.0_f32, None);
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match key.trim().to_ascii_lowercase().as_str() {
                    // A weight nobody can read does not raise the preference.
                    "q" => weight = value.parse().unwrap_or(0.0),
                    "version" => version = Some(value),
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => {
                    open = open.max(weight);
                }
                "text/plain" => plain = plain.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// `families` in this format, with `exemplars` where it has room for some.
    ///
    /// # Errors
    /// A family that the client library's encoder refuses, such as one without series.
    pub fn encode(
        self,
        families: &[MetricFamily],
        exemplars: &Exemplars,
    ) -> prometheus::Result<String> {
        match self {
            Self::Prometheus => prometheus_text(families),
            Self::OpenMetrics => Ok(open_metrics(families, exemplars)),
        }
    }
}

/// Prometheus text 0.0.4.
///
/// # Errors
/// See [`Format::encode`].
pub fn prometheus_text(families: &[MetricFamily]) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(families)
}

/// OpenMetrics 1.0. `_created` series are left out: they are optional, and the start of the process
/// is told already.
pub fn open_metrics(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(families.len() * 512);
    for family in families {
        open_metrics_family(&mut out, family, exemplars);
    }
    out.push_str("# EOF\n");
    out
}

fn open_metrics_family(out: &mut String, family: &MetricFamily, exemplars: &Exemplars) {
    let kind = family.get_field_type();
    let name = match kind {
        MetricType::COUNTER => family.name().trim_end_matches("_total"),
        _ => family.name(),
    };
    let kind_text = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "unknown",
    };
    put(out, format_args!("# TYPE {name} {kind_text}\n"));
    let unit = UNITS.into_iter().find(|unit| {
        name.strip_suffix(unit)
            .is_some_and(|rest| rest.ends_with('_'))
    });
    if let Some(unit) = unit {
        put(out, format_args!("# UNIT {name} {unit}\n"));
    }
    if !family.help().is_empty() {
        put(out, format_args!("# HELP {name} "));
        escape(out, family.help());
        out.push('\n');
    }
    for metric in family.get_metric() {
        let exemplars = exemplars_of(name, metric, exemplars);
        open_metrics_samples(out, name, kind, metric, exemplars);
    }
}

/// The exemplars of a series, by bucket; none if it has none.
fn exemplars_of<'a>(
    name: &str,
    metric: &Metric,
    exemplars: &'a Exemplars,
) -> &'a [Option<Exemplar>] {
    let labels = metric.get_label().iter();
    let label = |wanted: &str| {
        let mut labels = labels.clone().filter(|label| label.name() == wanted);
        labels.next().map(LabelPair::value)
    };
    let found = match (label("server"), label("method")) {
        (Some(server), Some(method)) if name == Exemplars::FAMILY => exemplars.of(server, method),
        _ => None,
    };
    found.unwrap_or_default()
}

fn open_metrics_samples(
    out: &mut String,
    name: &str,
    kind: MetricType,
    metric: &Metric,
    exemplars: &[Option<Exemplar>],
) {
    if kind == MetricType::HISTOGRAM {
        open_metrics_histogram(out, name, metric, exemplars);
        return;
    }
    let mut line = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
        sample(out, name, suffix, metric.get_label(), extra, value, None);
    };
    match kind {
        MetricType::COUNTER => line("_total", None, metric.get_counter().get_value()),
        MetricType::GAUGE => line("", None, metric.get_gauge().get_value()),
        // No collector of this process makes one.
        MetricType::UNTYPED | MetricType::HISTOGRAM => {}
        MetricType::SUMMARY => {
            let summary = metric.get_summary();
            for quantile in summary.get_quantile() {
                line(
                    "",
                    Some(("quantile", quantile.quantile())),
                    quantile.value(),
                );
            }
            line("_count", None, summary.sample_count() as f64);
            line("_sum", None, summary.sample_sum());
        }
    }
}

fn open_metrics_histogram(
    out: &mut String,
    name: &str,
    metric: &Metric,
    exemplars: &[Option<Exemplar>],
) {
    let mut line = |suffix: &str, bound: Option<f64>, value: f64, exemplar: Option<&Exemplar>| {
        let extra = bound.map(|bound| ("le", bound));
        sample(
            out,
            name,
            suffix,
            metric.get_label(),
            extra,
            value,
            exemplar,
        );
    };
    let histogram = metric.get_histogram();
    let bounds = histogram.get_bucket().iter();
    let bounds = bounds.filter(|bucket| bucket.upper_bound().is_finite());
    let mut exemplars = exemplars.iter().map(Option::as_ref);
    for bucket in bounds {
        let count = bucket.cumulative_count() as f64;
        let exemplar = exemplars.next().flatten();
        line("_bucket", Some(bucket.upper_bound()), count, exemplar);
    }
    let count = histogram.get_sample_count() as f64;
    let exemplar = exemplars.next().flatten();
    line("_bucket", Some(f64::INFINITY), count, exemplar);
    line("_count", None, count, None);
    line("_sum", None, histogram.get_sample_sum(), None);
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[LabelPair],
    extra: Option<(&str, f64)>,
    value: f64,
    exemplar: Option<&Exemplar>,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut open = '{';
    for label in labels {
        out.push(open);
        open = ',';
        out.push_str(label.name());
        out.push_str("=\"");
        escape(out, label.value());
        out.push('"');
    }
    if let Some((key, bound)) = extra {
        put(out, format_args!("{open}{key}=\"{}\"", number(bound, true)));
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    put(out, format_args!(" {}", number(value, false)));
    if let Some(exemplar) = exemplar {
        put(out, format_args!(" {exemplar}"));
    }
    out.push('\n');
}

/// A number as OpenMetrics writes it. `canonical` is the form for labels, where equal numbers must
/// be equal texts: `1.0`, `0.001`, `1e-05`, `1e+06`, `+Inf`.
fn number(value: f64, canonical: bool) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e6).contains(&size) && canonical {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    if canonical && value.fract() == 0.0 {
        format!("{value:.1}")
    } else {
        value.to_string()
    }
}

/// Escapes a label value or help text: backslash, line feed, double quote.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use prometheus::{Gauge, Opts};
    use proptest::prelude::*;

    use crate::ids::ServerName;
    use crate::telemetry::Metrics;
    use crate::telemetry::labels::{Anomaly, Method, Outcome, StartOutcome, WorkerState};

    fn example() -> Vec<MetricFamily> {
        let metrics = Metrics::new();
        let server = metrics.server(&ServerName::new("github"));
        server.set_workers(WorkerState::Busy, 2);
        server.worker_started(StartOutcome::Ok, Duration::from_millis(700));
        server.request(Method::ToolsCall, Outcome::Ok, Duration::from_millis(3));
        server.anomaly(Anomaly::UnknownId);
        server.set_memory_bytes(67 << 20);
        metrics.overhead(Duration::from_micros(18));
        let mut families = metrics.gather();
        families.retain(|family| {
            // Metrics of this process and build differ from run to run; the reasons are a long list.
            !["process_", "stdiopool_build", "stdiopool_rejections"]
                .iter()
                .any(|start| family.name().starts_with(start))
        });
        families
    }

    #[test]
    fn open_metrics_of_an_example() {
        insta::assert_snapshot!(open_metrics(&example(), &Exemplars::default()));
    }

    #[test]
    fn prometheus_text_of_an_example() {
        insta::assert_snapshot!(prometheus_text(&example()).expect("encodes"));
    }

    #[test]
    fn the_format_follows_accept() {
        use Format::*;
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (prometheus_3, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"",
                OpenMetrics,
            ),
            ("application/openmetrics-text;version=0.0.1", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=x", Prometheus),
            (
                "application/openmetrics-text;q=0.3,text/plain;q=0.5",
                Prometheus,
            ),
            ("text/html,*/*", Prometheus),
            ("", Prometheus),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn label_numbers_are_canonical() {
        let forms: Vec<_> = [1e-10, 1e-5, 2.5e-5, 1e-4, 0.1, 1.0, 120.0, 1e5, 1e6, 1e10]
            .map(|value| number(value, true))
            .into();
        assert_eq!(
            forms,
            [
                "1e-10", "1e-05", "2.5e-05", "0.0001", "0.1", "1.0", "120.0", "100000.0", "1e+06",
                "1e+10"
            ]
        );
        assert_eq!(number(f64::NEG_INFINITY, false), "-Inf");
        assert_eq!(number(f64::NAN, false), "NaN");
    }

    fn unescape(text: &str) -> String {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            out.push(match c {
                '\\' => match chars.next() {
                    Some('n') => '\n',
                    Some(c) => c,
                    None => panic!("a lone backslash at the end of {text:?}"),
                },
                c => c,
            });
        }
        out
    }

    proptest! {
        #[test]
        fn any_label_and_help_text_survives(value in any::<String>(), help in "(?s).{1,40}", number in any::<f64>()) {
            let gauge = Gauge::with_opts(Opts::new("g", help.clone()).const_label("l", value.clone()))
                .expect("any help and label value is allowed");
            gauge.set(number);
            let families = prometheus::core::Collector::collect(&gauge);
            let text = open_metrics(&families, &Exemplars::default());
            let lines: Vec<_> = text.split('\n').collect();
            prop_assert_eq!(lines.len(), 5, "{:?}", text);
            prop_assert_eq!(lines[0], "# TYPE g gauge");
            let read_help = lines[1].strip_prefix("# HELP g ").expect("help line");
            prop_assert_eq!(unescape(read_help), help);
            let sample = lines[2].strip_prefix("g{l=\"").expect("sample line");
            let (label, read_number) = sample.rsplit_once("\"} ").expect("closed label");
            prop_assert_eq!(unescape(label), value);
            let read_number: f64 = read_number.parse().expect("a number");
            prop_assert!(read_number == number || number.is_nan() && read_number.is_nan());
            prop_assert_eq!(lines[3], "# EOF");
        }
    }
}
