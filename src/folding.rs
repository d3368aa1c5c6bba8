//! Names that differ in case alone, which some programs take for one.
//!
//! Decoders and servers differ in which names they hold for one: Go's `encoding/json` and `strings.EqualFold` go by the
//! simple case folding of all Unicode (`ſ` is `s`, the Kelvin sign is `k`), others lower or raise letters; those that keep texts as C
//! does cut them at U+0000. The form here is equal wherever one of them sees no difference.

/// A text in the form in which texts are equal that some program takes for one: by full case folding, which is more
/// than simple folding, with the dotted and the dotless i as i.
pub fn case_folded(text: &str) -> String {
    folded(text.chars())
}

/// The form of these letters; see [`case_folded`].
pub fn folded(letters: impl Iterator<Item = char>) -> String {
    // A program that keeps texts as C does sees nothing of what is behind.
    let letters = letters.take_while(|c| *c != '\0');
    // Lower first: the capital of `ß` is `ẞ` and `SS`.
    let upper = letters
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase);
    let lower = upper.flat_map(char::to_lowercase);
    // `İ` is `i` and a dot above in full, and `i` in simple folding. Final sigma is sigma.
    lower
        .filter(|c| *c != '\u{307}')
        .map(|c| if c == 'ς' { 'σ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_some_program_takes_for_the_same_is_equal() {
        for (one, other) in [
            ("DELETE_ALL", "delete_all"),
            ("\u{17f}how", "SHOW"),
            ("\u{212a}ill", "kill"),
            ("İD", "id"),
            ("ıd", "ID"),
            ("ΣΑΣ", "σας"),
            ("straße", "STRASSE"),
        ] {
            assert_eq!(case_folded(one), case_folded(other), "{one} {other}");
        }
        assert_ne!(case_folded("delete_all"), case_folded("delete-all"));
    }

    proptest! {
        #[test]
        fn raising_and_lowering_letters_changes_nothing(text in ".{0,12}") {
            prop_assert_eq!(case_folded(&text.to_uppercase()), case_folded(&text));
            prop_assert_eq!(case_folded(&text.to_lowercase()), case_folded(&text));
            prop_assert_eq!(case_folded(&case_folded(&text)), case_folded(&text));
        }
    }
}
