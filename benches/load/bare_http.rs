//! The floor of the HTTP side: takes a body in, answers with a constant.

use std::process::{Command, Stdio};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;

use super::Result;
use super::connection::Endpoint;
use super::process::Process;

/// Serves answers with a text of so many bytes, until it is killed.
///
/// # Errors
/// If it gets no port.
#[tokio::main]
pub(crate) async fn serve(bytes: usize) -> Result<()> {
    let text = "x".repeat(bytes);
    let answer = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#
    );
    let answer = Bytes::from(answer);
    let answer = move |_body: Bytes| {
        let answer = answer.clone();
        async move { ([("content-type", "application/json")], answer) }
    };
    let router = Router::new().route("/", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    eprintln!("MCP at http://{}", listener.local_addr()?);
    let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
        let _best_effort = socket.set_nodelay(true);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

/// This program, started anew to serve that.
///
/// # Errors
/// If it does not listen.
pub(crate) fn start(bytes: usize) -> Result<(Process, Endpoint)> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["bare-http", &bytes.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let [address] = process.announced(["MCP at http://"])?;
    let endpoint = Endpoint {
        address,
        path: "/".to_owned(),
        token: None,
    };
    Ok((process, endpoint))
}
