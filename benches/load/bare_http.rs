//! The floor of the HTTP side: takes a body in, answers with a constant.

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}]}}"#;

/// Serves until it is killed.
#[tokio::main]
pub(crate) async fn serve() {
    let answer = async |_body: Bytes| ([("content-type", "application/json")], ANSWER);
    let router = Router::new().route("/{server}/mcp", post(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    eprintln!("MCP at http://{}", listener.local_addr().expect("bound"));
    let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
        let _best_effort = socket.set_nodelay(true);
    });
    axum::serve(listener, router).await.expect("serves");
}
