//! Home folders as shells know them, and nobody else.

/// How a text begins that a shell would read as somebody's home folder.
pub(super) fn home(text: &str) -> Option<&'static str> {
    let begins = ["~/", "$HOME", "${HOME}"].into_iter();
    let mut begins = begins.chain((text == "~").then_some("~"));
    begins.find(|home| text.starts_with(home))
}
