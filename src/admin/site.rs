//! The dashboard's files, as they were built from `web/` and are in the program.
//!
//! Invariants:
//! - a page runs scripts and styles of this program alone, talks to this listener alone, and is shown in no frame;
//! - there is nothing in the files that is not in the source: they are served to who has no token.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use data_encoding::HEXLOWER;
use include_dir::{Dir, include_dir};
use sha2::{Digest, Sha256};

use super::index::INDEX;

/// What vite has built; committed, so that a build needs no node.
static BUILT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/web/dist");

/// The page.
const PAGE: &str = "index.html";
/// The folder of files whose names change with what is in them.
const HASHED: &str = "assets/";

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A file of the dashboard.
#[derive(Debug)]
struct BuiltFile {
    /// The path of the file, with a slash at the beginning.
    path: String,
    media: &'static str,
    bytes: &'static [u8],
    etag: HeaderValue,
}

/// All files, by path.
static FILES: LazyLock<Vec<BuiltFile>> = LazyLock::new(|| {
    let mut files = vec![];
    let mut folders = vec![&BUILT];
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        files.extend(folder.files().map(|file| {
            let path = format!("/{}", file.path().display());
            let bytes = file.contents();
            let digest = HEXLOWER.encode(&Sha256::digest(bytes)[..12]);
            let etag = HeaderValue::try_from(format!("\"{digest}\"")).expect("ASCII");
            BuiltFile {
                media: media_type(&path),
                path,
                bytes,
                etag,
            }
        }));
    }
    files
});

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// The file at that path, the page aside, which is at `/`.
fn at(path: &str) -> Option<&'static BuiltFile> {
    let is_page = path.strip_prefix('/') == Some(PAGE);
    FILES.iter().find(|file| file.path == path && !is_page)
}

fn page() -> Option<&'static BuiltFile> {
    FILES
        .iter()
        .find(|file| file.path.strip_prefix('/') == Some(PAGE))
}

/// Whether a client takes HTML, as browsers say that they do.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut ranges = accepted.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let media = range.split(';').next().unwrap_or_default();
        media.trim().eq_ignore_ascii_case("text/html")
    })
}

/// Whether the request is for a file of the dashboard.
pub(super) fn serves(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let path = uri.path();
    reads && (at(path).is_some() || (path == "/" && wants_page(headers)))
}

/// `/` and each file.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Vec<(&'static str, MethodRouter<S>)> {
    let mut routes = vec![("/", get(root))];
    let files = FILES.iter().filter_map(|file| at(&file.path));
    routes.extend(files.map(|file| {
        let answer = move |headers: HeaderMap| async move { answer(file, &headers) };
        (file.path.as_str(), get(answer))
    }));
    routes
}

async fn root(headers: HeaderMap) -> Response {
    let vary = [(VARY, HeaderValue::from_static("accept"))];
    match page().filter(|_| wants_page(&headers)) {
        Some(page) => (vary, answer(page, &headers)).into_response(),
        None => (vary, INDEX).into_response(),
    }
}

fn answer(file: &'static BuiltFile, headers: &HeaderMap) -> Response {
    let is_hashed = file.path[1..].starts_with(HASHED);
    let caching = match is_hashed {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let text = HeaderValue::from_static;
    let told = [
        (CONTENT_TYPE, text(file.media)),
        (CACHE_CONTROL, text(caching)),
        (ETAG, file.etag.clone()),
        (CONTENT_SECURITY_POLICY, text(POLICY)),
        (X_FRAME_OPTIONS, text("DENY")),
        (REFERRER_POLICY, text("no-referrer")),
        (OPENER_POLICY, text("same-origin")),
        (RESOURCE_POLICY, text("same-origin")),
    ];
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| {
        let known = known.to_str().unwrap_or_default();
        let mut tags = known.split(',').map(str::trim);
        // Weak and strong tags are equal for this.
        tags.any(|tag| {
            tag == "*" || tag.trim_start_matches("W/").as_bytes() == file.etag.as_bytes()
        })
    });
    if is_known {
        return (StatusCode::NOT_MODIFIED, told).into_response();
    }
    (told, Body::from(file.bytes)).into_response()
}
