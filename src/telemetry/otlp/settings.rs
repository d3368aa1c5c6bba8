//! Where spans go, and of which requests.

use reqwest::header::HeaderMap;
use std::time::Duration;
use url::Url;

/// Where spans are exported to, and of which requests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where batches of spans are posted to, most often `…/v1/traces`.
    pub endpoint: Url,
    /// Headers of each such request. They may hold secrets, and are marked as sensitive.
    pub headers: HeaderMap,
    /// How long one such request may take.
    pub timeout: Duration,
    /// The share of the traces that begin here which is recorded, 0 to 1.
    pub sample_ratio: f64,
    /// `service.name`.
    pub service_name: String,
    /// Further attributes of the resource, by name.
    pub attributes: Vec<(String, String)>,
}
