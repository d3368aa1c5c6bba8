//! The state machine: a line and the time in, whole messages out.

use std::time::Instant;

use serde_json::{Value, json};

use super::answer::{Refusal, Reply};
use super::arguments::{self, Cancelled, Initialize, SetLevel};
use super::message::{question_id, write_error, write_notification, write_progress, write_result};
use super::server::{Client, Server};
use super::waiting::What;
use super::{catalogue, features, tools};
use crate::protocol::{Envelope, EnvelopeError, Kind, RawJson, Revision, code};

/// Whether the process goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    Continue,
    /// Ends now, with this exit code.
    Exit(u8),
}

impl Server {
    /// Takes one line, without its line break. Blank lines are ignored.
    pub(super) fn on_line(&mut self, line: &[u8], now: Instant, out: &mut Vec<u8>) -> Flow {
        if line.trim_ascii().is_empty() {
            return Flow::Continue;
        }
        let message = match Envelope::parse(line) {
            Ok(message) => message,
            Err(error) => {
                let code = match error {
                    EnvelopeError::Encoding(_) | EnvelopeError::Syntax(_) => code::PARSE_ERROR,
                    EnvelopeError::Shape(_) => code::INVALID_REQUEST,
                };
                write_error(out, "null", &Refusal::new(code, error.to_string()));
                return Flow::Continue;
            }
        };
        match (message.kind(), message.id, message.method.as_deref()) {
            (Kind::Request, Some(id), Some(method)) => {
                return self.on_request(id.get(), method, message.params, now, out);
            }
            (Kind::Notification, _, Some("notifications/cancelled")) => {
                self.on_cancelled(message.params, out);
            }
            (Kind::Response, Some(id), _) => {
                self.on_answer(id.get(), message.result, message.error, out);
            }
            // Unknown notifications are to be ignored, and so is an error without an id.
            (Kind::Request | Kind::Notification | Kind::Response, _, _) => {}
        }
        Flow::Continue
    }

    /// Refuses a line that was longer than `limit` bytes and was not kept.
    #[expect(clippy::unused_self, reason = "an event of the server like the others")]
    pub(super) fn on_overlong_line(&mut self, limit: usize, out: &mut Vec<u8>) -> Flow {
        let message = format!("line longer than {limit} bytes");
        write_error(out, "null", &Refusal::new(code::PARSE_ERROR, message));
        Flow::Continue
    }

    /// When [`Server::on_time`] wants to be called next.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.waiting.next_wake()
    }

    /// Carries out everything that is due at `now`.
    pub(super) fn on_time(&mut self, now: Instant, out: &mut Vec<u8>) {
        while let Some((id, sleeping)) = self.waiting.first_sleeper()
            && sleeping.next() <= now
        {
            if let Some(token) = &sleeping.progress {
                sleeping.done += 1;
                write_progress(out, token, sleeping.done, sleeping.steps);
                if sleeping.done < sleeping.steps {
                    continue;
                }
            }
            let slept = sleeping.step * sleeping.steps;
            let text = format!("slept {} s", slept.as_secs_f64());
            write_result(out, id, &tools::text(text));
            let id = id.to_owned();
            self.waiting.take(&id);
        }
    }

    fn on_request(
        &mut self,
        id: &str,
        method: &str,
        params: Option<RawJson<'_>>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Flow {
        let reply = if self.waiting.has(id) {
            let message = format!("id {id} is that of a request still in flight");
            Err(Refusal::new(code::INVALID_REQUEST, message))
        } else {
            self.dispatch(id, method, params, now, out)
        };
        match reply {
            Ok(Reply::Now(result)) => write_result(out, id, &result),
            Ok(Reply::Later) => {}
            Ok(Reply::Exit(code)) => return Flow::Exit(code),
            Err(refusal) => write_error(out, id, &refusal),
        }
        Flow::Continue
    }

    fn dispatch(
        &mut self,
        id: &str,
        method: &str,
        params: Option<RawJson<'_>>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Reply, Refusal> {
        let revision = match (&self.client, method) {
            (_, "ping") => return Ok(Reply::Now(json!({}))),
            (None, "initialize") => return self.initialize(arguments::read(params)?),
            (None, _) => {
                let message = format!("`{method}` before `initialize`");
                return Err(Refusal::new(code::INVALID_REQUEST, message));
            }
            (Some(client), _) => client.revision,
        };
        let result = match method {
            "initialize" => {
                return Err(Refusal::new(code::INVALID_REQUEST, "already initialized"));
            }
            "tools/call" => return tools::call(self, id, arguments::read(params)?, now, out),
            "tools/list" => features::only_page(params, || catalogue::tools(revision))?,
            "resources/list" => features::only_page(params, catalogue::resources)?,
            "resources/templates/list" => features::only_page(params, catalogue::templates)?,
            "prompts/list" => features::only_page(params, catalogue::prompts)?,
            "resources/read" => features::read_resource(self, arguments::read(params)?)?,
            "resources/subscribe" => features::subscribe(self, arguments::read(params)?)?,
            "resources/unsubscribe" => features::unsubscribe(self, &arguments::read(params)?),
            "prompts/get" => features::get_prompt(arguments::read(params)?)?,
            "completion/complete" => features::complete(arguments::read(params)?)?,
            "logging/setLevel" => {
                let SetLevel { level } = arguments::read(params)?;
                self.level = level;
                json!({})
            }
            _ => {
                let message = format!("no method `{method}`");
                return Err(Refusal::new(code::METHOD_NOT_FOUND, message));
            }
        };
        Ok(Reply::Now(result))
    }

    fn initialize(&mut self, asked: Initialize) -> Result<Reply, Refusal> {
        let revision = Revision::negotiate(&asked.protocol_version, Revision::LATEST);
        if !asked.capabilities.is_object() || !asked.client_info.is_object() {
            return Err(Refusal::params(
                "`capabilities` and `clientInfo` must be objects",
            ));
        }
        self.client = Some(Client {
            revision,
            info: asked.client_info,
            capabilities: asked.capabilities,
        });
        let mut capabilities = json!({
            "tools": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true},
            "prompts": {"listChanged": true},
            "logging": {},
        });
        if revision >= Revision::V2025_03_26 {
            capabilities["completions"] = json!({});
        }
        Ok(Reply::Now(json!({
            "protocolVersion": revision.as_str(),
            "capabilities": capabilities,
            "serverInfo": {"name": "stdiopool-demo", "version": env!("CARGO_PKG_VERSION")},
            "instructions": "A server to try things with. Start with the tool `echo`.",
        })))
    }

    fn on_cancelled(&mut self, params: Option<RawJson<'_>>, out: &mut Vec<u8>) {
        // A cancellation that cannot be read, or comes too late, is to be ignored.
        let Ok(Cancelled { request_id }) = arguments::read(params) else {
            return;
        };
        if let Some(waiting) = self.waiting.take(request_id.get())
            && let What::Answer(number) = waiting.what
        {
            let params = json!({"requestId": question_id(number), "reason": "no longer needed"});
            write_notification(out, "notifications/cancelled", &params);
        }
    }

    fn on_answer(
        &mut self,
        id: &str,
        result: Option<RawJson<'_>>,
        error: Option<RawJson<'_>>,
        out: &mut Vec<u8>,
    ) {
        let number = id
            .strip_prefix("\"demo-")
            .and_then(|rest| rest.strip_suffix('"'))
            .and_then(|number| number.parse().ok());
        let Some(asker) = number.and_then(|number| self.waiting.take_asker(number)) else {
            return;
        };
        let answer = result.or(error).map_or("null", RawJson::get);
        let mut call = tools::text(answer);
        if error.is_some() {
            call["isError"] = Value::Bool(true);
        }
        write_result(out, &asker.id, &call);
    }
}
