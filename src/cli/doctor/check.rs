//! What was found out about one thing.

use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub(super) what: &'static str,
    /// The thing that was looked at is as it should be.
    pub(super) ok: bool,
    /// The thing is there in a version that does less.
    pub(super) old: bool,
    /// What was found.
    pub(super) found: String,
    /// What is lost while the thing is as it was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lost: Option<String>,
    /// What to do about the finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            ok: true,
            old: false,
            found: found.into(),
            lost: None,
            remedy: None,
        }
    }

    pub(super) fn lacks(
        what: &'static str,
        found: impl Into<String>,
        lost: &str,
        remedy: &str,
    ) -> Self {
        Self {
            ok: false,
            lost: Some(lost.to_owned()),
            remedy: Some(remedy.to_owned()),
            ..Self::ok(what, found)
        }
    }

    /// Something is there, in a version that does less.
    pub(super) fn old(
        what: &'static str,
        found: impl Into<String>,
        lost: &str,
        remedy: &str,
    ) -> Self {
        Self {
            old: true,
            ..Self::lacks(what, found, lost, remedy)
        }
    }
}
