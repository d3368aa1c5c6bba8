//! Why an exchange over HTTP failed.

use std::error::Error;

/// The cause at the bottom of the chain, which says most: `Connection refused (os error 111)`.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
