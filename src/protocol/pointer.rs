//! Steps of JSON pointers (RFC 6901, 3).

/// The step that leads to the member of that name.
pub(crate) fn step_to(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The name of the member to which that step leads.
pub(crate) fn name_of(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}
