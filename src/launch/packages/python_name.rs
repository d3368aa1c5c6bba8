//! Names of Python packages.

/// A name as it is compared: in lower case, runs of `-`, `_` and `.` as one `-` (PEP 503, "Normalized Names").
pub(super) fn normalized(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if text.ends_with('-') => {}
            '-' | '_' | '.' => text.push('-'),
            letter => text.push(letter.to_ascii_lowercase()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_name_are_one() {
        for name in [
            "Friendly-Bard",
            "friendly.bard",
            "FRIENDLY_._BARD",
            "friendly--bard",
        ] {
            assert_eq!(normalized(name), "friendly-bard");
        }
        assert_eq!(normalized("friendlybard"), "friendlybard");
    }
}
