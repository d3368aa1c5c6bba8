//! Where spans of requests go, and of which: what pool.toml says, and where it is silent the variables of OpenTelemetry.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use url::Url;

use super::assemble::ServeError;
use crate::config::Tracing;
use crate::telemetry::{ExportSettings, Exporter, export_spans};
use crate::tenancy::Secrets;

/// How long a collector may take for one batch, where nothing else is said (OpenTelemetry, "OTLP Exporter").
const TIMEOUT: Duration = Duration::from_secs(10);

/// Begins to export spans, if they are to be.
///
/// # Errors
/// [`ServeError::Tracing`] when a header is not to be had, or nothing can be sent to the collector's address.
pub(super) async fn start(tracing: &Tracing) -> Result<Option<Exporter>, ServeError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(mut settings) = settings(tracing, variable) else {
        return Ok(None);
    };
    for (name, source) in &tracing.headers {
        let unusable =
            |why: String| ServeError::Tracing(format!("`tracing.headers.{name}`: {why}"));
        let value = Secrets::of_operator(source).await;
        let value = value.map_err(|error| unusable(error.to_string()))?;
        let header = header(name, value.expose_secret());
        let (name, value) = header.ok_or_else(|| unusable("it is no header".to_owned()))?;
        settings.headers.insert(name, value);
    }
    let exporter = export_spans(settings);
    exporter
        .map(Some)
        .map_err(|error| ServeError::Tracing(error.to_string()))
}

/// What is to be exported where; `None`: nothing. Headers of pool.toml are still to be added.
fn settings(
    tracing: &Tracing,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<ExportSettings> {
    let of_traces = |name: &str| {
        let own = variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
        own.or_else(|| variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let endpoint = match &tracing.endpoint {
        Some(endpoint) => endpoint.join("v1/traces").ok()?,
        None => endpoint_of_variables(&variable)?,
    };
    let headers = match tracing.headers.is_empty() {
        true => headers_of(of_traces("HEADERS").as_deref().unwrap_or_default()),
        false => HeaderMap::new(),
    };
    let timeout = of_traces("TIMEOUT").and_then(|millis| millis.trim().parse().ok());
    let attributes = pairs(
        variable("OTEL_RESOURCE_ATTRIBUTES")
            .as_deref()
            .unwrap_or_default(),
    );
    let of_resource = attributes.iter().find(|(name, _)| name == "service.name");
    let of_resource = of_resource.map(|(_, name)| name.clone());
    let service_name = tracing.service_name.clone();
    let service_name = service_name
        .or_else(|| variable("OTEL_SERVICE_NAME"))
        .or(of_resource);
    Some(ExportSettings {
        endpoint,
        headers,
        timeout: timeout.map_or(TIMEOUT, Duration::from_millis),
        sample_ratio: tracing.sample_ratio.unwrap_or_else(|| ratio_of(&variable)),
        service_name: service_name.unwrap_or_else(|| "stdiopool".to_owned()),
        attributes,
    })
}

/// Where the environment has spans sent to; `None`: nowhere.
fn endpoint_of_variables(variable: &impl Fn(&str) -> Option<String>) -> Option<Url> {
    let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
    let others = variable("OTEL_TRACES_EXPORTER").is_some_and(|it| it != "otlp");
    if is_off || others {
        return None;
    }
    let traces = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    let (name, text) = match traces {
        Some(whole) => ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", whole),
        None => {
            let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
            let whole = format!("{}/v1/traces", base.trim_end_matches('/'));
            ("OTEL_EXPORTER_OTLP_ENDPOINT", whole)
        }
    };
    let protocol = variable("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL");
    let protocol = protocol.or_else(|| variable("OTEL_EXPORTER_OTLP_PROTOCOL"));
    if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
        tracing::warn!(
            "no spans are exported: `OTEL_EXPORTER_OTLP_PROTOCOL` is {other:?}, and only \"http/protobuf\" is spoken (set `tracing.endpoint`, or that variable)"
        );
        return None;
    }
    let url = Url::parse(&text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    if url.is_none() {
        tracing::warn!("no spans are exported: `{name}` is no address of a collector");
    }
    url
}

/// The share that the environment has sampled; 1 where it says nothing that is understood.
fn ratio_of(variable: &impl Fn(&str) -> Option<String>) -> f64 {
    let sampler = variable("OTEL_TRACES_SAMPLER");
    match sampler
        .as_deref()
        .map(|name| name.trim_start_matches("parentbased_"))
    {
        Some("always_off") => 0.0,
        Some("traceidratio") => {
            let share = variable("OTEL_TRACES_SAMPLER_ARG");
            let share = share.and_then(|share| share.trim().parse::<f64>().ok());
            share
                .filter(|share| (0.0..=1.0).contains(share))
                .unwrap_or(1.0)
        }
        _ => 1.0,
    }
}

/// Headers as a variable lists them; what is none is left out.
fn headers_of(text: &str) -> HeaderMap {
    let headers = pairs(text).into_iter();
    headers
        .filter_map(|(name, value)| header(&name, &value))
        .collect()
}

fn header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
}

/// Names and values of a list as W3C Baggage writes them, `a=1,b=%202`, as OpenTelemetry's variables have them.
fn pairs(text: &str) -> Vec<(String, String)> {
    let decoded = |text: &str| {
        percent_decode_str(text.trim())
            .decode_utf8_lossy()
            .into_owned()
    };
    let members = text.split(',').filter_map(|member| member.split_once('='));
    let members = members.map(|(name, value)| (decoded(name), decoded(value)));
    members.filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(tracing: &Tracing, variables: &[(&str, &str)]) -> Option<ExportSettings> {
        settings(tracing, |name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_an_address_nothing_is_exported() {
        let silent = Tracing::default();
        let address = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        for variables in [
            &[][..],
            &[address, ("OTEL_SDK_DISABLED", "true")],
            &[address, ("OTEL_TRACES_EXPORTER", "none")],
            &[address, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "a:4318")],
        ] {
            assert!(with(&silent, variables).is_none(), "{variables:?}");
        }
    }

    #[test]
    fn variables_say_what_pool_toml_does_not() {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318/"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20x, k = v",
            ),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "500"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("OTEL_SERVICE_NAME", "pool"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            ),
        ];
        let found = with(&Tracing::default(), &variables).expect("an address");
        assert_eq!(found.endpoint.as_str(), "http://a:4318/v1/traces");
        assert_eq!(
            (found.sample_ratio, found.service_name.as_str()),
            (0.5, "pool")
        );
        assert_eq!(found.timeout, Duration::from_millis(500));
        assert_eq!(found.headers["authorization"], "Bearer x");
        assert_eq!(found.headers["k"], "v");
        assert_eq!(found.attributes.len(), 1);
        let shown = format!("{found:?}");
        assert!(!shown.contains("Bearer"), "{shown}");

        let written = Tracing {
            endpoint: Some(Url::parse("https://b/otlp/").expect("a URL")),
            sample_ratio: Some(0.0),
            service_name: Some("own".to_owned()),
            ..Tracing::default()
        };
        let found = with(&written, &variables).expect("an address");
        assert_eq!(found.endpoint.as_str(), "https://b/otlp/v1/traces");
        assert_eq!(
            (found.sample_ratio, found.service_name.as_str()),
            (0.0, "own")
        );
        assert_eq!(found.headers.len(), 2);
    }
}
