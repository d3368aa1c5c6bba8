//! `[tracing]`: where spans of requests are sent.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use toml::de::DeValue;
use url::Url;

use super::model::SecretSource;
use super::oauth::is_safe_in_transit;
use super::reader::Reader;
use super::secret_source;

/// `[tracing]`. Where it is silent, variables of the environment say more (`OTEL_…`).
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tracing {
    /// The collector's address, to which `/v1/traces` is added; it ends with a slash.
    pub endpoint: Option<Url>,
    /// Where the values of headers are that the collector wants, by name.
    pub headers: BTreeMap<String, SecretSource>,
    /// The share of the traces that begin here which is recorded, 0 to 1.
    pub sample_ratio: Option<f64>,
    /// What the collector knows stdiopool as.
    pub service_name: Option<String>,
}

pub(super) fn tracing(reader: &mut Reader<'_, '_>, base_dir: &Path) -> Tracing {
    let endpoint = reader.text("endpoint", None, "The address of an OpenTelemetry collector that takes OTLP over HTTP (\"http://127.0.0.1:4318\"): spans of requests are posted to `/v1/traces` below it, as protobuf. Without it, and without `OTEL_EXPORTER_OTLP_ENDPOINT` in stdiopool's environment, none are made.");
    let endpoint = endpoint.and_then(|text| match usable(&text) {
        Ok(url) => Some(url),
        Err(why) => {
            reader.wrong("endpoint", format!("`tracing.endpoint` {why}"));
            None
        }
    });
    let doc = "Headers that the collector wants, such as { authorization = { env = \"OTLP_AUTHORIZATION\" } }: each from a variable of stdiopool's environment (`env`), a `file`, or the output of a `command`. Without any: those of `OTEL_EXPORTER_OTLP_HEADERS`.";
    let headers = secret_source::by_name(reader, "headers", base_dir, doc);
    for name in headers.keys() {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            reader.wrong(
                "headers",
                format!("`tracing.headers.{name}` is no name of a header"),
            );
        }
    }
    let is_safe = endpoint.as_ref().is_none_or(is_safe_in_transit);
    if !headers.is_empty() && !is_safe {
        reader.warn(
            "endpoint",
            "`tracing.endpoint` begins with http:// and is on another host: what `tracing.headers` has can be read on the way",
        );
    }
    Tracing {
        endpoint,
        headers,
        sample_ratio: ratio(reader),
        service_name: reader
            .text("service_name", None, "What the collector knows stdiopool as (`service.name`). Without it: `OTEL_SERVICE_NAME`, else \"stdiopool\".")
            .filter(|name| !name.is_empty()),
    }
}

/// Why an address is none of a collector; follows the name of its key.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("is no address: {0}")]
    NoAddress(url::ParseError),
    #[error("must begin with http:// or https://, not {0}:")]
    Scheme(String),
    #[error(
        "must have neither a query, a fragment nor credentials in it; `tracing.headers` is for the latter"
    )]
    TooMuch,
}

fn usable(text: &str) -> Result<Url, Unusable> {
    let mut url = Url::parse(text).map_err(Unusable::NoAddress)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Unusable::Scheme(url.scheme().to_owned()));
    }
    let has_credentials = !url.username().is_empty() || url.password().is_some();
    if has_credentials || url.query().is_some() || url.fragment().is_some() {
        return Err(Unusable::TooMuch);
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn ratio(reader: &mut Reader<'_, '_>) -> Option<f64> {
    let schema = json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let doc = "The share of the traces that begin at stdiopool of which spans are sent, 0 to 1. A request that came with a context (`traceparent`) is recorded if its caller's part is, whatever stands here. Without it: `OTEL_TRACES_SAMPLER_ARG`, else 1.";
    let value = reader.raw("sample_ratio", schema, doc)?;
    let text = match value.get_ref() {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(number) => number.as_str(),
        _ => "",
    };
    let ratio = text.parse().ok();
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    if ratio.is_none() {
        reader.mismatch("sample_ratio", value, "a number from 0 to 1, such as 0.01");
    }
    ratio
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Result<Tracing, String> {
        let text = format!("{text}\n[servers.a]\ncommand = \"a\"\n");
        let config = parse(&text, "pool.toml", Path::new("/etc"));
        config
            .map(|config| config.tracing)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_collector_is_an_address_with_headers_from_elsewhere() {
        let tracing = read(
            "[tracing]\nendpoint = \"https://otel.example.com/otlp\"\nheaders.authorization = { env = \"TOKEN\" }\nsample_ratio = 0.25\nservice_name = \"pool\"",
        );
        let tracing = tracing.expect("valid");
        let endpoint = tracing.endpoint.expect("written");
        assert_eq!(endpoint.as_str(), "https://otel.example.com/otlp/");
        assert_eq!(
            tracing.headers["authorization"],
            SecretSource::Env("TOKEN".to_owned())
        );
        assert_eq!(
            (tracing.sample_ratio, tracing.service_name.as_deref()),
            (Some(0.25), Some("pool"))
        );
        assert_eq!(read("").expect("valid"), Tracing::default());
        assert_eq!(
            read("[tracing]\nsample_ratio = 1")
                .expect("valid")
                .sample_ratio,
            Some(1.0)
        );
    }

    #[test]
    fn what_is_no_collector_is_said() {
        for (text, said) in [
            (
                "endpoint = \"collector:4318\"",
                "must begin with http:// or https://",
            ),
            (
                "endpoint = \"http://user:pass@a\"",
                "`tracing.headers` is for the latter",
            ),
            ("endpoint = \"http://a?key=x\"", "a query"),
            ("sample_ratio = 1.5", "a number from 0 to 1"),
            (
                "headers.authorization = \"Bearer x\"",
                "must say where the secret is",
            ),
            (
                "headers.\"a b\" = { env = \"A\" }",
                "is no name of a header",
            ),
        ] {
            let mistakes = read(&format!("[tracing]\n{text}")).expect_err("a mistake");
            assert!(mistakes.contains(said), "{text}: {mistakes}");
            assert!(!mistakes.contains("Bearer x"), "{mistakes}");
        }
    }
}
