//! An OAuth provider on loopback: checks what it is asked, rotates refresh tokens, and can fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

pub(crate) const CLIENT_SECRET: &str = "client-secret-4711";

/// How it answers at its token endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// 503, as one that is away behind its proxy.
    Away,
    /// Every refresh token is refused.
    Refusing,
}

#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) mood: Mood,
    /// `expires_in` of the tokens it gives next.
    pub(crate) expires_in: u64,
    /// Gives no refresh tokens.
    pub(crate) is_plain: bool,
    /// Refresh tokens that are good, each once.
    pub(crate) good: Vec<String>,
    /// Those that were presented though they were not.
    pub(crate) misused: usize,
    pub(crate) revoked: Vec<String>,
    /// Everything that must not be found anywhere.
    pub(crate) secrets: Vec<String>,
    pub(crate) refreshes: usize,
    /// Challenge and redirect URI of each code.
    codes: HashMap<String, (String, String)>,
    given: usize,
}

/// A running provider.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) url: String,
    books: Arc<Mutex<Books>>,
}

impl Provider {
    pub(crate) async fn start(expires_in: u64) -> Self {
        let books = Books {
            mood: Mood::Well,
            expires_in,
            is_plain: false,
            good: vec![],
            misused: 0,
            revoked: vec![],
            secrets: vec![CLIENT_SECRET.to_owned()],
            refreshes: 0,
            codes: HashMap::new(),
            given: 0,
        };
        let books = Arc::new(Mutex::new(books));
        let router = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .with_state(Arc::clone(&books));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        // Ends with the runtime of its test.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, books }
    }

    pub(crate) fn books<R>(&self, with: impl FnOnce(&mut Books) -> R) -> R {
        with(&mut self.books.lock().expect("not poisoned"))
    }
}

type Fields = HashMap<String, String>;

/// A user who says yes at once; with `error` in the scope, no.
async fn authorize(
    State(books): State<Arc<Mutex<Books>>>,
    Query(asked): Query<Fields>,
) -> Redirect {
    let mut books = books.lock().expect("not poisoned");
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["client_id"], "pool");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["prompt"], "consent");
    assert_eq!(asked["scope"], "repo offline_access");
    assert!(asked["state"].len() >= 43, "at least 256 bits");
    books.given += 1;
    let code = format!("code-{}-5ecret", books.given);
    let about = (
        asked["code_challenge"].clone(),
        asked["redirect_uri"].clone(),
    );
    books.codes.insert(code.clone(), about);
    books.secrets.extend([code.clone(), asked["state"].clone()]);
    let mut back = url::Url::parse(&asked["redirect_uri"]).expect("an address");
    back.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", &asked["state"])
        .append_pair("iss", "https://issuer.example");
    Redirect::to(back.as_str())
}

fn form(body: &str) -> Fields {
    url::form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect()
}

fn is_the_client(headers: &HeaderMap) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("pool:{CLIENT_SECRET}")));
    headers
        .get("authorization")
        .is_some_and(|it| it == expected.as_str())
}

fn refused(code: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": code }))).into_response()
}

async fn token(
    State(books): State<Arc<Mutex<Books>>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let asked = form(&body);
    let mut books = books.lock().expect("not poisoned");
    if books.mood == Mood::Away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !is_the_client(&headers) {
        return refused("invalid_client");
    }
    match asked["grant_type"].as_str() {
        "authorization_code" => {
            let verifier = &asked["code_verifier"];
            books.secrets.push(verifier.clone());
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
            let expected = (challenge, asked["redirect_uri"].clone());
            if books.codes.remove(&asked["code"]) != Some(expected) {
                return refused("invalid_grant");
            }
        }
        "refresh_token" => {
            books.refreshes += 1;
            let presented = &asked["refresh_token"];
            let is_good = books.good.contains(presented);
            if books.mood == Mood::Refusing || !is_good {
                books.misused += usize::from(!is_good);
                return refused("invalid_grant");
            }
            let presented = presented.clone();
            books.good.retain(|good| *good != presented);
        }
        _ => return refused("unsupported_grant_type"),
    }
    books.given += 1;
    let n = books.given;
    let (access, refresh) = (format!("access-{n}-5ecret"), format!("refresh-{n}-5ecret"));
    books.secrets.extend([access.clone(), refresh.clone()]);
    let mut answer =
        json!({"access_token": access, "token_type": "Bearer", "expires_in": books.expires_in});
    if !books.is_plain {
        books.good.push(refresh.clone());
        answer["refresh_token"] = json!(refresh);
    }
    Json(answer).into_response()
}

async fn revoke(
    State(books): State<Arc<Mutex<Books>>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let asked = form(&body);
    if !is_the_client(&headers) {
        return StatusCode::UNAUTHORIZED;
    }
    let mut books = books.lock().expect("not poisoned");
    books.good.retain(|good| *good != asked["token"]);
    books.revoked.push(asked["token"].clone());
    StatusCode::OK
}
