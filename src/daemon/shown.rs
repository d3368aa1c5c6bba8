//! What the operator is shown: texts up to a length, and what a worker was started with.

use crate::admin::StartRow;
use crate::routing::StartPlan;

/// Most arguments that are shown.
const MAX_ARGS: usize = 256;
/// Longest argument that is shown, in bytes.
const MAX_ARG: usize = 2 << 10;

/// The row of a plan: its arguments with secrets redacted, its environment by name alone.
pub(super) fn started_with(plan: &StartPlan) -> StartRow {
    let spec = &plan.spec;
    // Cut behind the redaction: a part of a secret would not be known for one.
    let args = spec.redacted_args().take(MAX_ARGS);
    StartRow {
        program: spec.program.clone(),
        args: args.map(|arg| up_to(&arg, MAX_ARG).to_owned()).collect(),
        env: spec.env.keys().cloned().collect(),
        cwd: spec.cwd.display().to_string(),
        is_callers: plan.is_callers,
    }
}

/// As much of a text as fits into so many bytes.
pub(super) fn up_to(text: &str, bytes: usize) -> &str {
    let mut ends = (0..=bytes.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}
