//! What holds of every verdict.

use super::{Broken, Flaw, Line, Says};
use crate::protocol::envelope::Envelope;

impl Line<'_> {
    /// Panics when the verdict on `line` is not one that who acts on it can rely on. For property tests and fuzzing.
    pub fn check_invariants(&self, line: &[u8]) {
        match self {
            Self::Message(envelope) => {
                assert!(envelope.is_exact && is_one_line(line));
            }
            Self::Mended(mended) => {
                assert!(!mended.messages.is_empty() || mended.broken.len() > 1);
                for message in &mended.messages {
                    let read = Envelope::parse(message).expect("it can be read");
                    assert!(read.is_exact && is_one_line(message));
                    let verdict = Line::of(message);
                    assert!(
                        matches!(verdict, Line::Message(_)),
                        "mended once, it is a message: {verdict:?}"
                    );
                }
                mended.broken.iter().for_each(Broken::check_invariants);
            }
            Self::Broken(broken) => broken.check_invariants(),
            Self::Log => assert!(Envelope::parse(line).is_err(), "a message is no log"),
        }
    }
}

impl Broken {
    /// Panics when it says of itself what cannot be together. For property tests and fuzzing.
    pub fn check_invariants(&self) {
        for (at, id) in self.ids.iter().enumerate() {
            assert!(!self.ids[..at].contains(id), "each once");
            let id: serde_json::Value = serde_json::from_str(id).expect("an id is JSON");
            assert!(id.is_string() || id.is_number());
        }
        let is_json = !matches!(self.flaw, Flaw::Syntax | Flaw::TooLong);
        match self.says {
            Says::Asks | Says::AsksAndAnswers | Says::Answers => {}
            Says::AnswersOneOf => {
                assert!(self.ids.is_empty() && (!is_json || self.error.is_some()))
            }
            Says::AnswersOnly => assert!(self.ids.is_empty() && is_json),
            Says::AnswersNotification | Says::AnswersUnknownMethod => {
                assert!(self.ids.is_empty() && self.error.is_some());
            }
        }
    }
}

fn is_one_line(text: &[u8]) -> bool {
    memchr::memchr2(b'\n', b'\r', text).is_none()
}
