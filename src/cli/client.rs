//! The admin API from the outside.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{CliError, Target};
use super::output;
use crate::config;
use crate::store::{self, Door};
use crate::tenancy::{BodyError, read_up_to};

/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a short answer may take. A reload reads and checks the config, which may run commands.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest short answer, in bytes: some 100,000 rows.
const MAX_ANSWER: usize = 64 << 20;

/// The configuration where none is named; there need not be one.
const DEFAULT_CONFIG: &str = "pool.toml";
/// Where the admin API is when no configuration says so; the default of `admin.listen`.
const DEFAULT_ADMIN: &str = "127.0.0.1:9090";
/// Where the front door is when no configuration says so; the default of `http.listen`.
const DEFAULT_FRONT: &str = "127.0.0.1:8080";

/// Where the admin API is.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The configuration that says where the admin API is; pool.toml, if there is one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the admin API, instead of the one in the file
    #[arg(long, value_name = "URL", env = "STDIOPOOL_ADMIN", value_parser = base_url)]
    pub admin: Option<Url>,
    /// Token of the admin API, instead of the one in the file
    #[arg(
        long,
        value_name = "TOKEN",
        env = "STDIOPOOL_ADMIN_TOKEN",
        hide_env_values = true
    )]
    pub admin_token: Option<SecretString>,
}

impl AdminArgs {
    /// A client for where it is.
    ///
    /// # Errors
    /// When the file cannot be read, or names no address.
    pub(super) async fn client(&self) -> Result<AdminClient, CliError> {
        if let Some(admin) = &self.admin {
            // The file's token is for the file's address.
            return Ok(AdminClient::new(admin.clone(), self.admin_token.clone()));
        }
        let (path, text) = config_text(self.config.as_deref())?;
        let unusable = |why: String| {
            let path = path.to_owned();
            CliError::Config { path, why }
        };
        let said = admin_in_file(&text);
        let listen = said.listen.as_deref().unwrap_or(DEFAULT_ADMIN);
        let url = base_url(listen).map_err(|why| unusable(format!("`admin.listen`: {why}")))?;
        let base_dir = path.parent().unwrap_or_else(|| Path::new(""));
        let state = config::state_dir(said.state.as_deref(), base_dir);
        let url = where_it_runs(url, path, &state, Door::Admin).await;
        Ok(AdminClient::new(
            url,
            self.admin_token.clone().or(said.token),
        ))
    }
}

/// The configuration that is named, or pool.toml, and what it says; nothing, if none is named and there is none.
fn config_text(named: Option<&Path>) -> Result<(&Path, String), CliError> {
    let path = named.unwrap_or_else(|| Path::new(DEFAULT_CONFIG));
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((path, text)),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => {
            Ok((path, String::new()))
        }
        Err(error) => Err(CliError::Config {
            path: path.to_owned(),
            why: error.to_string(),
        }),
    }
}

/// Where the front door of the stdiopool of that configuration is, or of pool.toml, if there is one.
///
/// # Errors
/// When the file cannot be read, or names no address that can be asked.
pub(super) async fn front_door(named: Option<&Path>) -> Result<Url, CliError> {
    let (path, text) = config_text(named)?;
    let url = front_door_of(&text).map_err(|why| CliError::Config {
        path: path.to_owned(),
        why: why.to_string(),
    })?;
    let said = admin_in_file(&text);
    let base_dir = path.parent().unwrap_or_else(|| Path::new(""));
    let state = config::state_dir(said.state.as_deref(), base_dir);
    Ok(where_it_runs(url, path, &state, Door::Front).await)
}

fn front_door_of(text: &str) -> Result<Url, NoFrontDoor> {
    let table: toml::Table = text.parse().unwrap_or_default();
    let http = table.get("http");
    if http.is_some_and(|http| http.get("tls").is_some()) {
        return Err(NoFrontDoor::Tls);
    }
    let listen = http.and_then(|http| http.get("listen")?.as_str());
    let listen = listen.unwrap_or(DEFAULT_FRONT);
    let address = listen.parse().map(here);
    let listen = address.map_or_else(|_| listen.to_owned(), |address| address.to_string());
    base_url(&listen).map_err(NoFrontDoor::Listen)
}

/// Where a listener can be asked from this host: one that listens at all addresses is at the loopback's too.
fn here(address: SocketAddr) -> SocketAddr {
    let loopback = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    match address.ip().is_unspecified() {
        true => SocketAddr::new(loopback, address.port()),
        false => address,
    }
}

/// Why a configuration says of no front door that can be asked.
#[derive(Debug, thiserror::Error)]
enum NoFrontDoor {
    #[error(
        "`http.tls` is on, and this speaks http:// only: give the address of a listener without TLS (`--url`)"
    )]
    Tls,
    #[error("`http.listen`: {0}")]
    Listen(NoAddress),
}

/// Where the stdiopool of that file and state folder listens with that door. The file may have changed since it started, and
/// an address of it takes effect with the next start only.
pub(super) async fn where_it_runs(said: Url, file: &Path, state: &Path, door: Door) -> Url {
    if is_reachable(&said).await {
        return said;
    }
    // With `state.dir` changed too, its folder is another's, or nobody's.
    let running = store::address_of_running(state, door);
    let Some(address) = running.or_else(|| store::address_of_serving(file, door)) else {
        return said;
    };
    let Ok(running) = base_url(&here(address).to_string()) else {
        return said;
    };
    // Port 0 says that the system chooses: nothing has changed then.
    if running != said && said.port() != Some(0) {
        let says = said.authority();
        output::notice(&format!(
            "{} says {says}; one runs at {address} (takes effect after a restart)",
            file.display()
        ));
    }
    running
}

/// Whether anybody accepts connections there.
async fn is_reachable(url: &Url) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = tokio::net::TcpStream::connect((host, port));
    // Whoever takes longer is told of when it is asked.
    let in_time = tokio::time::timeout(CONNECT_TIMEOUT, connected).await;
    in_time.is_ok_and(|connected| connected.is_ok())
}

/// The admin API's keys of a pool.toml, and its state folder.
struct AdminInFile {
    listen: Option<String>,
    token: Option<SecretString>,
    state: Option<String>,
}

/// `listen` and `token` of `[admin]`, and `dir` of `[state]`, whatever else is wrong with the file: that is for `check` and
/// for the answer to a reload.
fn admin_in_file(text: &str) -> AdminInFile {
    let table: toml::Table = text.parse().unwrap_or_default();
    let text = |of: &str, key: &str| {
        let value = table.get(of).and_then(|of| of.get(key));
        value.and_then(toml::Value::as_str)
    };
    AdminInFile {
        listen: text("admin", "listen").map(str::to_owned),
        token: text("admin", "token").map(SecretString::from),
        state: text("state", "dir").map(str::to_owned),
    }
}

/// Why a text is no address that can be asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum NoAddress {
    /// What the parser says.
    #[error("{0}")]
    Url(String),
    /// Something else than HTTP without TLS.
    #[error("`{0}` is not supported: give the http:// address behind the TLS proxy")]
    Scheme(String),
    /// More than an address.
    #[error("an address has neither `?` nor `#`")]
    Query,
}

/// Reads an address such as `http://127.0.0.1:9090` or `127.0.0.1:9090`.
pub(super) fn base_url(text: &str) -> Result<Url, NoAddress> {
    let with_scheme = match text.split_once("://") {
        Some(_) => text.to_owned(),
        None => format!("http://{text}"),
    };
    let mut url = Url::parse(&with_scheme).map_err(|error| NoAddress::Url(error.to_string()))?;
    if url.scheme() != "http" {
        return Err(NoAddress::Scheme(url.scheme().to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(NoAddress::Query);
    }
    // Joining replaces everything after the last slash.
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// A client for `url`. Loopback is never asked for through the environment's proxy.
pub(super) fn http_client(url: &Url) -> Client {
    let loopback = match url.host_str() {
        Some(host) => {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            let address = address.parse::<std::net::IpAddr>();
            host.eq_ignore_ascii_case("localhost")
                || address.is_ok_and(|a| a.to_canonical().is_loopback())
        }
        None => false,
    };
    // The client speaks http:// only, and needs no roots, which a host may not even have.
    let builder = Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .tls_certs_only([]);
    let builder = if loopback {
        builder.no_proxy()
    } else {
        builder
    };
    builder
        .build()
        .expect("no roots to read and no custom option that could fail")
}

/// Reads a whole body of up to `limit` bytes.
pub(super) async fn read_body(
    target: &Target,
    response: Response,
    limit: usize,
) -> Result<Vec<u8>, CliError> {
    let read = read_up_to(limit, response).await;
    read.map_err(|error| match error {
        BodyError::Transport(error) => CliError::transport(target, &error),
        BodyError::TooLong => CliError::Protocol(format!("answer over {limit} bytes")),
    })
}

/// The error body of the admin API.
#[derive(Deserialize)]
struct ApiError {
    error: String,
    reason: String,
}

/// The answer to an action.
#[derive(Deserialize)]
struct Done {
    message: String,
}

/// A connection to the admin API.
#[derive(Debug)]
pub(super) struct AdminClient {
    http: Client,
    target: Target,
    token: Option<SecretString>,
}

impl AdminClient {
    pub(super) fn new(admin: Url, token: Option<SecretString>) -> Self {
        Self {
            http: http_client(&admin),
            target: Target {
                url: admin,
                url_flag: "--admin",
                token_flag: "--admin-token",
                token_env: "STDIOPOOL_ADMIN_TOKEN",
            },
            token,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// `GET`s rows.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let request = self.request(Method::GET, path)?.timeout(ANSWER_TIMEOUT);
        self.read(self.send(request).await?).await
    }

    /// `GET`s text.
    pub(super) async fn text(&self, path: &str) -> Result<String, CliError> {
        let request = self.request(Method::GET, path)?.timeout(ANSWER_TIMEOUT);
        let response = self.send(request).await?;
        let body = read_body(&self.target, response, MAX_ANSWER).await?;
        String::from_utf8(body).map_err(|error| CliError::Protocol(error.to_string()))
    }

    /// `POST`s an action and gives what it answered.
    pub(super) async fn act(&self, path: &str) -> Result<String, CliError> {
        let request = self.request(Method::POST, path)?.timeout(ANSWER_TIMEOUT);
        let done: Done = self.read(self.send(request).await?).await?;
        Ok(done.message)
    }

    /// Sends a request with a body or without, and reads what it answers.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, CliError> {
        let request = self.request(method, path)?.timeout(ANSWER_TIMEOUT);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.read(self.send(request).await?).await
    }

    /// `GET`s an event stream, which may take for ever.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, CliError> {
        self.send(self.request(Method::GET, path)?).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CliError> {
        let url = self.target.url.join(path);
        let url = url.map_err(|error| CliError::Protocol(format!("`{path}`: {error}")))?;
        let request = self.http.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request
            .send()
            .await
            .map_err(|error| CliError::transport(&self.target, &error))?;
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(CliError::Unauthorized {
                target: Box::new(self.target.clone()),
                given: self.token.is_some(),
            });
        }
        if status.is_success() && response.headers().contains_key(CONTENT_TYPE) {
            return Ok(response);
        }
        let body = read_body(&self.target, response, MAX_ANSWER).await?;
        match serde_json::from_slice::<ApiError>(&body) {
            Ok(ApiError { error, reason }) => Err(CliError::Refused {
                error,
                reason,
                help: None,
            }),
            Err(_) => Err(self.stranger(status)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, CliError> {
        let status = response.status();
        let body = read_body(&self.target, response, MAX_ANSWER).await?;
        serde_json::from_slice(&body).map_err(|_| self.stranger(status))
    }

    fn stranger(&self, status: StatusCode) -> CliError {
        CliError::Stranger {
            target: Box::new(self.target.clone()),
            what: "an admin API of this version of stdiopool",
            status: status.as_u16(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use miette::Diagnostic;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::admin::tests::Fake;
    use crate::admin::{Options, WorkerRow, router};
    use crate::telemetry::Metrics;

    /// The real admin API over a made-up supervisor, on a port of its own.
    async fn serve(fake: &Arc<Fake>, token: Option<&str>) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let listen = listener.local_addr().expect("bound");
        let options = Options {
            listen,
            token: token.map(Into::into),
            shutdown: CancellationToken::new(),
        };
        let app = router(Arc::clone(fake), Metrics::new(), options).expect("loopback");
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, app).await });
        base_url(&listen.to_string()).expect("an address")
    }

    fn client(admin: &Url, token: Option<&str>) -> AdminClient {
        AdminClient::new(admin.clone(), token.map(Into::into))
    }

    #[tokio::test]
    async fn rows_and_actions_pass_through() {
        let fake = Arc::new(Fake::default());
        let url = serve(&fake, None).await;
        let client = client(&url, None);
        let rows: Vec<WorkerRow> = client.get("api/v1/workers").await.expect("rows");
        assert_eq!(rows[0].id.to_string(), "w7");
        let said = client.act("api/v1/workers/w7/stop").await.expect("stops");
        assert_eq!(said, "stopping w7");
        assert_eq!(*fake.done.lock(), ["stop w7"]);
        let error = client
            .act("api/v1/workers/w9/stop")
            .await
            .expect_err("none");
        let text = "not_found: there is no worker `w9`, and nothing is known of one (GET /api/v1/workers lists those that run, /api/v1/ended those that have ended)";
        assert_eq!(error.to_string(), text);
    }

    #[tokio::test]
    async fn a_missing_token_and_a_stranger_are_told_apart() {
        let url = serve(&Arc::default(), Some("s3cret")).await;
        let get = async |token, path| client(&url, token).get::<Vec<WorkerRow>>(path).await;
        let error = get(None, "api/v1/workers").await.expect_err("no token");
        assert_eq!(
            format!("{error} ({})", error.help().expect("has help")),
            format!(
                "{url} does not accept requests without a token (give the token with --admin-token or in STDIOPOOL_ADMIN_TOKEN)"
            )
        );
        let error = get(Some("x"), "api/v1/workers").await.expect_err("wrong");
        assert!(
            error.to_string().ends_with("does not accept this token"),
            "{error}"
        );
        assert!(get(Some("s3cret"), "api/v1/workers").await.is_ok());
        // An index is not a list of workers, as if the port belonged to something else.
        let error = get(Some("s3cret"), "").await.expect_err("no rows");
        assert!(error.to_string().contains("is not an admin API"), "{error}");
    }

    #[tokio::test]
    async fn what_is_not_given_is_in_the_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pool.toml");
        // Wrong in another place, which a reload has to be able to say.
        let text =
            "[pool]\nmax_wrokers = 1\n[admin]\nlisten = \"[::1]:9191\"\ntoken = \"s3cret\"\n";
        std::fs::write(&file, text).expect("written");
        let args = |admin: Option<&str>, config: &Path, token: Option<&str>| AdminArgs {
            config: Some(config.to_owned()),
            admin: admin.map(|admin| base_url(admin).expect("an address")),
            admin_token: token.map(Into::into),
        };
        let of = async |args: AdminArgs| {
            let client = args.client().await.expect("known");
            let token = client.token.as_ref().map(|token| token.expose_secret());
            format!("{} {}", client.target.url, token.unwrap_or("-"))
        };
        assert_eq!(
            of(args(None, &file, None)).await,
            "http://[::1]:9191/ s3cret"
        );
        assert_eq!(
            of(args(None, &file, Some("x"))).await,
            "http://[::1]:9191/ x"
        );
        assert_eq!(of(args(Some("a:1"), &file, None)).await, "http://a:1/ -");
        std::fs::write(&file, "").expect("written");
        assert_eq!(
            of(args(None, &file, None)).await,
            "http://127.0.0.1:9090/ -"
        );
        let gone = folder.path().join("gone.toml");
        let error = args(None, &gone, None)
            .client()
            .await
            .expect_err("not there");
        assert!(error.to_string().contains("gone.toml"), "{error}");
    }

    #[test]
    fn the_front_door_is_where_the_file_says() {
        for (text, url) in [
            ("", "http://127.0.0.1:8080/"),
            ("[http]\nlisten = \"127.0.0.1:9\"", "http://127.0.0.1:9/"),
            ("[http]\nlisten = \"0.0.0.0:9\"", "http://127.0.0.1:9/"),
            ("[http]\nlisten = \"[::]:9\"", "http://[::1]:9/"),
        ] {
            assert_eq!(front_door_of(text).expect("one").as_str(), url, "{text}");
        }
        let tls = front_door_of("[http.tls]\ncert = \"x\"").expect_err("none");
        assert!(tls.to_string().contains("--url"), "{tls}");
    }

    #[test]
    fn addresses_are_read_generously_and_checked() {
        let read = |text| base_url(text).map(|url| url.to_string());
        for (text, url) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090/"),
            ("localhost:1", "http://localhost:1/"),
            ("http://pool/a/b", "http://pool/a/b/"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(url));
        }
        for bad in [
            "",
            "http://",
            "ftp://x",
            "https://x",
            "http://x/?a",
            "http://x:99999",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
