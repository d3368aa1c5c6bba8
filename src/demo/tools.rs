//! What the tools do.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::answer::{Refusal, Reply};
use super::arguments::{
    self, Add, Ask, AskKind, Big, Call, Echo, Exit, Log, Nothing, Notify, NotifyKind, Sleep,
};
use super::catalogue::{COUNTER, has_structured_results};
use super::message::{question_id, write_notification, write_request};
use super::server::Server;
use super::waiting::{DelayedCall, MAX_WAITING, Sleeping, What};
use crate::protocol::{RawJson, Revision, code};

/// Carries out `tools/call` with the id `id`. What it tells the client besides goes to `out`.
///
/// # Errors
/// -32602 for an unknown tool or arguments that do not fit it; -32000 when too many calls wait.
pub(super) fn call(
    server: &mut Server,
    id: &str,
    call: Call,
    now: Instant,
    out: &mut Vec<u8>,
) -> Result<Reply, Refusal> {
    let given = Some(RawJson::from(&*call.arguments));
    let result = match call.name.as_str() {
        "echo" => text(arguments::read::<Echo>(given)?.message),
        "add" => add(server, &arguments::read(given)?)?,
        "whoami" => whoami(server, &arguments::read(given)?),
        "counter" => counter(server, &arguments::read(given)?, out),
        "log" => log(server, &arguments::read(given)?, out),
        "notify" => notify(server, arguments::read(given)?, out),
        "big" => text("x".repeat(arguments::read::<Big>(given)?.bytes)),
        "sleep" => {
            let asked = arguments::read(given)?;
            return sleep(server, id, &asked, call.meta.progress_token, now);
        }
        "ask" => return ask(server, id, &arguments::read(given)?, out),
        "exit" => return Ok(Reply::Exit(arguments::read::<Exit>(given)?.code)),
        name => return Err(Refusal::params(format!("no tool `{name}`"))),
    };
    Ok(Reply::Now(result))
}

/// The result of a call: one text.
pub(super) fn text(text: impl Into<String>) -> Value {
    let text = Value::String(text.into());
    json!({"content": [{"type": "text", "text": text}]})
}

fn failed(message: String) -> Value {
    let mut result = text(message);
    result["isError"] = Value::Bool(true);
    result
}

fn add(server: &Server, Add { a, b }: &Add) -> Result<Value, Refusal> {
    let shown = (a + b).to_string();
    // Through its text, so that whole numbers stay whole; an infinite sum is no JSON.
    let sum: Value = serde_json::from_str(&shown)
        .map_err(|_| Refusal::params(format!("the sum of {a} and {b} is out of range")))?;
    let mut result = text(shown);
    if has_structured_results(server.client().revision) {
        result["structuredContent"] = json!({"sum": sum});
    }
    Ok(result)
}

fn whoami(server: &Server, Nothing {}: &Nothing) -> Value {
    let (identity, client) = (&server.identity, server.client());
    let shown = json!({
        "arguments": identity.arguments,
        "environment": identity.environment,
        "pid": identity.pid,
        "cwd": identity.cwd.as_ref().map(|cwd| cwd.to_string_lossy()),
        "protocolVersion": client.revision.as_str(),
        "client": {"info": client.info, "capabilities": client.capabilities},
    });
    text(shown.to_string())
}

fn counter(server: &mut Server, Nothing {}: &Nothing, out: &mut Vec<u8>) -> Value {
    server.counter += 1;
    tell_if_subscribed(server, COUNTER, out);
    text(server.counter.to_string())
}

fn log(server: &Server, log: &Log, out: &mut Vec<u8>) -> Value {
    if log.level < server.level {
        return text(format!("below the level `{}`", server.level.as_str()));
    }
    let params = json!({"level": log.level.as_str(), "logger": "demo", "data": log.message});
    write_notification(out, "notifications/message", &params);
    text("logged")
}

fn notify(server: &Server, asked: Notify, out: &mut Vec<u8>) -> Value {
    let list = match asked.kind {
        NotifyKind::Tools => "tools",
        NotifyKind::Prompts => "prompts",
        NotifyKind::Resources => "resources",
        NotifyKind::Resource => {
            let uri = asked.uri.unwrap_or_else(|| COUNTER.to_owned());
            return if tell_if_subscribed(server, &uri, out) {
                text(format!("told that {uri} was updated"))
            } else {
                text(format!("not subscribed to {uri}"))
            };
        }
    };
    let method = format!("notifications/{list}/list_changed");
    write_notification(out, &method, &json!({}));
    text(format!("told that the list of {list} changed"))
}

fn tell_if_subscribed(server: &Server, uri: &str, out: &mut Vec<u8>) -> bool {
    let subscribed = server.subscriptions.iter().any(|known| known == uri);
    if subscribed {
        write_notification(out, "notifications/resources/updated", &json!({"uri": uri}));
    }
    subscribed
}

fn room(server: &Server) -> Result<(), Refusal> {
    if server.waiting.is_full() {
        let message = format!("{MAX_WAITING} calls are in flight, which is the limit");
        return Err(Refusal::new(code::SERVER_ERROR, message));
    }
    Ok(())
}

fn sleep(
    server: &mut Server,
    id: &str,
    asked: &Sleep,
    progress: Option<Box<RawValue>>,
    now: Instant,
) -> Result<Reply, Refusal> {
    room(server)?;
    server.waiting.push(DelayedCall {
        id: id.into(),
        what: What::Sleep(Sleeping {
            since: now,
            step: Duration::from_secs_f64(asked.seconds / f64::from(asked.steps)),
            steps: asked.steps,
            done: 0,
            progress: progress.map(|token| token.get().into()),
        }),
    });
    Ok(Reply::Later)
}

fn ask(server: &mut Server, id: &str, asked: &Ask, out: &mut Vec<u8>) -> Result<Reply, Refusal> {
    let (capability, method, params) = match asked.kind {
        AskKind::Sampling => (
            "sampling",
            "sampling/createMessage",
            json!({
                "messages": [{"role": "user", "content": {"type": "text", "text": "Say hello."}}],
                "maxTokens": 100,
            }),
        ),
        AskKind::Elicitation => (
            "elicitation",
            "elicitation/create",
            json!({
                "message": "What is your name?",
                "requestedSchema": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                },
            }),
        ),
        AskKind::Roots => ("roots", "roots/list", json!({})),
    };
    let client = server.client();
    if client.capabilities.get(capability).is_none() {
        let message = format!("the client did not declare the capability `{capability}`");
        return Ok(Reply::Now(failed(message)));
    }
    if capability == "elicitation" && client.revision < Revision::V2025_06_18 {
        let message = format!("revision {} has no elicitation", client.revision);
        return Ok(Reply::Now(failed(message)));
    }
    room(server)?;
    server.asked += 1;
    write_request(out, &question_id(server.asked), method, &params);
    server.waiting.push(DelayedCall {
        id: id.into(),
        what: What::Answer(server.asked),
    });
    Ok(Reply::Later)
}
