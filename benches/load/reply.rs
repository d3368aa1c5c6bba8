//! Whether a body says that the call was carried out: JSON-RPC, alone or in a stream of events
//! (MCP, Streamable HTTP; the HTML standard, 9.2.6).

use std::borrow::Cow;

use serde::Deserialize;

/// Bodies beyond it are not parsed, since that would be measured too: only that a result begins.
pub(crate) const PARSED: usize = 64 * 1024;

/// What is read of a reply.
#[derive(Deserialize)]
struct Message {
    result: Option<CallResult>,
    error: Option<RpcError>,
}

#[derive(Deserialize)]
struct CallResult {
    #[serde(default, rename = "isError")]
    is_error: bool,
    #[serde(rename = "protocolVersion")]
    revision: Option<String>,
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
}

/// What a reply with a result says beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The revision that an answer to `initialize` chooses.
    pub(crate) revision: Option<String>,
}

/// Why a body is no result.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoResult {
    #[error("answered with error {code}: {message}")]
    Error { code: i64, message: String },
    #[error("the tool failed: {0}")]
    Failed(String),
    #[error("not a JSON-RPC reply: {0}")]
    NotJson(String),
    #[error("the stream of events ends without a reply")]
    NoReply,
}

/// Finds the reply in a body and says whether it has a result.
///
/// # Errors
/// What it has instead.
pub(crate) fn read(body: &[u8], is_events: bool) -> Result<Reply, NoResult> {
    if !is_events {
        return read_message(body)?.ok_or_else(|| NoResult::NotJson(excerpt(body)));
    }
    // An event without data only says what to resume from (MCP 2025-11-25, Streamable HTTP).
    for data in events(body).filter(|data| !data.is_empty()) {
        if let Some(reply) = read_message(&data)? {
            return Ok(reply);
        }
    }
    Err(NoResult::NoReply)
}

/// `None`: a notification or request of the server.
fn read_message(text: &[u8]) -> Result<Option<Reply>, NoResult> {
    if text.len() > PARSED {
        // In the order that every implementation writes them, `result` comes early.
        let begins = memchr::memmem::find(&text[..PARSED], b"\"result\"").is_some();
        return Ok(begins.then_some(Reply { revision: None }));
    }
    let message: Message =
        serde_json::from_slice(text).map_err(|_| NoResult::NotJson(excerpt(text)))?;
    match message {
        Message {
            error: Some(RpcError { code, message }),
            ..
        } => Err(NoResult::Error { code, message }),
        Message {
            result: Some(CallResult { is_error: true, .. }),
            ..
        } => Err(NoResult::Failed(excerpt(text))),
        Message {
            result: Some(CallResult { revision, .. }),
            ..
        } => Ok(Some(Reply { revision })),
        Message { .. } => Ok(None),
    }
}

/// Its first bytes, to show.
fn excerpt(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned()
}

/// The data of each event in a stream. One that no empty line ends is none.
pub(crate) fn events(stream: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut rest = stream;
    std::iter::from_fn(move || {
        let mut data: Option<Cow<'_, [u8]>> = None;
        while let Some((line, after)) = next_line(rest) {
            rest = after;
            if line.is_empty() {
                if let Some(data) = data.take() {
                    return Some(data);
                }
            } else if let Some(value) = field(line, b"data") {
                match &mut data {
                    None => data = Some(Cow::Borrowed(value)),
                    Some(lines) => {
                        let lines = lines.to_mut();
                        lines.push(b'\n');
                        lines.extend_from_slice(value);
                    }
                }
            }
        }
        None
    })
}

/// Lines end with CR LF, LF or CR.
fn next_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr2(b'\n', b'\r', text)?;
    let after = if text[end..].starts_with(b"\r\n") {
        end + 2
    } else {
        end + 1
    };
    Some((&text[..end], &text[after..]))
}

/// The value of a line that is the field `name`.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(rest);
    }
    let value = rest.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
