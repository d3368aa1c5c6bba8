//! Why a word of a command line is no value.

use crate::ids::MAX_NAME_LEN;

/// Why a word is not what is wanted in its place; clap shows it behind the word.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoValue {
    /// No size.
    #[error("not a size above zero such as \"512MiB\"")]
    Size,
    /// No count.
    #[error("not a whole number above zero")]
    Count,
    /// No time.
    #[error("not a time above zero such as \"30s\" or \"10m\"")]
    Time,
    /// No time, and not that there is none.
    #[error("not a time above zero such as \"30s\" or \"10m\", nor \"never\"")]
    TimeOrNever,
    /// No number that may be.
    #[error("not a number from 0 on")]
    Number,
    /// No part of a whole.
    #[error("not a number from 0 to 1")]
    Part,
    /// No name of a server or tenant.
    #[error(
        "a name is 1 to {MAX_NAME_LEN} of `A-Z a-z 0-9 . _ -` and starts with a letter or digit"
    )]
    Name,
    /// No object.
    #[error("not a JSON object: {0}")]
    Object(serde_json::Error),
    /// No moment.
    #[error("it is neither a time such as 2026-11-24T08:00:00Z nor a duration such as 2h")]
    Moment,
    /// A moment before time began.
    #[error("that is too long ago")]
    TooLongAgo,
    /// A server's values without the server.
    #[error("it is SERVER=JSON, such as github={{\"repo\":\"a/b\"}}")]
    NoServer,
    /// A server's values that are none.
    #[error("what follows `=` is no JSON object: {0}")]
    Values(serde_json::Error),
}
