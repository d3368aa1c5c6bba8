//! What a text is of which no message can be made: whose answer it may be, or nothing but a log's line.

use super::flaw::Flaw;
use super::sketch::Sketch;
use crate::protocol::code;

/// A message of which nothing can be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// What is wrong with the message.
    pub flaw: Flaw,
    /// What the message may be for whoever waits for an answer.
    pub says: Says,
    /// Ids that it may be about, as raw JSON, each once, the one that it would have by itself last.
    pub ids: Vec<String>,
    /// The error that it tells without saying of which request, as raw JSON.
    pub error: Option<String>,
}

/// What a broken message may be for whoever waits for an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Says {
    /// The message is a request or notification.
    Asks,
    /// The message is a request or notification and an answer: it asks under its ids, and may answer the requests of those ids.
    AsksAndAnswers,
    /// The message answers the requests of its ids, and no other.
    Answers,
    /// The message answers the only request that is open. Of several, none.
    AnswersOnly,
    /// The message answers one of the requests that are open.
    AnswersOneOf,
    /// The message answers a notification. Before there was any, the only request that is open.
    AnswersNotification,
    /// The message answers a notification that has not been answered. Where there is none, the only request that is open.
    AnswersUnknownMethod,
}

impl Broken {
    /// The verdict on a text of which no message can be made, by the table in the [module](super); `None`: it is a log's
    /// line.
    pub(super) fn of(sketch: Sketch, flaw: Flaw, error: Option<String>) -> Option<Self> {
        let is_json = !matches!(flaw, Flaw::Syntax | Flaw::TooLong);
        let asks_in_json = is_json && sketch.has_method && !sketch.has_others;
        if !sketch.is_of_message() && !asks_in_json {
            return None;
        }
        let names_nobody = sketch.has_version && sketch.has_answer && !sketch.has_id();
        let says = match (sketch.has_method, names_nobody) {
            (true, _) if sketch.has_answer => Says::AsksAndAnswers,
            (true, _) => Says::Asks,
            (false, false) => Says::Answers,
            (false, true) => match error.as_deref().map(ErrorSubject::of) {
                Some(ErrorSubject::OfNotification) => Says::AnswersNotification,
                Some(ErrorSubject::UnknownMethod) => Says::AnswersUnknownMethod,
                Some(ErrorSubject::NotRead) => Says::AnswersOneOf,
                Some(ErrorSubject::Other) | None if is_json => Says::AnswersOnly,
                Some(ErrorSubject::Other) | None => Says::AnswersOneOf,
            },
        };
        Some(Self {
            flaw,
            says,
            ids: sketch.ids,
            error,
        })
    }
}

/// Whether there is more than a prompt: what stands behind words may be quoted.
pub(super) fn has_words(before: &str) -> bool {
    before.contains(char::is_alphanumeric)
}

/// The message that an error without an id says it answers.
enum ErrorSubject {
    /// The error says that a message could not be read.
    NotRead,
    /// The error says that a message was a notification.
    OfNotification,
    /// The error says that a method is not known, which may be that of a notification.
    UnknownMethod,
    Other,
}

impl ErrorSubject {
    fn of(error: &str) -> Self {
        #[derive(serde::Deserialize)]
        struct View {
            code: f64,
        }
        let code = serde_json::from_str(error).map_or(0.0, |view: View| view.code);
        let is = |known: i32| code == f64::from(known);
        if is(code::PARSE_ERROR) {
            Self::NotRead
        } else if names_notification(error) {
            Self::OfNotification
        } else if is(code::METHOD_NOT_FOUND) {
            // A server that has read the method of a request has read its id too.
            Self::UnknownMethod
        } else {
            Self::Other
        }
    }
}

fn names_notification(error: &str) -> bool {
    let names = ["notifications/", r"notifications\/"];
    let found = |name: &str| memchr::memmem::find(error.as_bytes(), name.as_bytes()).is_some();
    names.into_iter().any(found)
}
