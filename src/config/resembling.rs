//! Whether a pattern of names is one slip of the pen away from a name that it does not match.

use std::collections::BTreeSet;

/// Alternatives of a pattern (`{a,b}`) that are looked at.
const MAX_ALTERNATIVES: usize = 64;
/// Letters of a pattern or name that are compared.
const MAX_LETTERS: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Letter(char),
    /// `?`, or a class such as `[ab]`.
    One,
    /// `*`
    Any,
}

/// Letters that a part of a name has at least which may stand for all of it.
const LEAST_PART: usize = 3;

/// Whether `pattern`, a name or a glob, is so much like `name` that it may have been meant for it: one letter in three
/// may be wrong, missing, too many or swapped with its neighbour, and three at the most; or it has the words of the name
/// in another order, some of them only, or more before or behind, as with the name of the server (`git__git_status`). A
/// pattern that matches is like the name, too.
pub fn resembles(pattern: &str, name: &str) -> bool {
    has_its_words(pattern, name) || is_a_slip(pattern, name)
}

/// Whether the words of one are among those of the other. Globs have none.
fn has_its_words(pattern: &str, name: &str) -> bool {
    let words = |text: &str| -> BTreeSet<String> {
        let words = text.split(|letter: char| !letter.is_alphanumeric());
        let words = words.filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (pattern_words, name_words) = (words(pattern), words(name));
    let shorter = pattern_words.len().min(name_words.len());
    let shared: Vec<_> = pattern_words.intersection(&name_words).collect();
    let letters: usize = shared.iter().map(|word| word.chars().count()).sum();
    let is_glob = pattern.contains(['*', '?', '[', '{']);
    !is_glob && shared.len() == shorter && letters >= LEAST_PART
}

fn is_a_slip(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().take(MAX_LETTERS).collect();
    alternatives(pattern).iter().any(|pattern| {
        let pieces = pieces(pattern);
        let is_letter = |piece: &&Piece| matches!(piece, Piece::Letter(_));
        let allowed = (pieces.iter().filter(is_letter).count() / 3).min(3);
        distance(&pieces, &name) <= allowed
    })
}

/// The patterns without `{…}` that a pattern stands for. A nested pattern stays as it is, and is like little.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut rest = pattern;
    while let Some((before, inner, after)) = braces(rest) {
        let choices: Vec<&str> = inner.split(',').collect();
        if found.len() * choices.len() > MAX_ALTERNATIVES {
            break;
        }
        let longer = found.iter().flat_map(|begun| {
            let choices = choices.iter();
            choices.map(move |choice| format!("{begun}{before}{choice}"))
        });
        found = longer.collect();
        rest = after;
    }
    for begun in &mut found {
        begun.push_str(rest);
    }
    found
}

/// What stands before the first `{…}`, in it and after it.
fn braces(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (inner, after) = rest.split_once('}')?;
    Some((before, inner, after))
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Any,
            '?' => Piece::One,
            '[' => {
                let _class = letters.by_ref().find(|letter| *letter == ']');
                Piece::One
            }
            '\\' => Piece::Letter(letters.next().unwrap_or('\\')),
            letter => Piece::Letter(letter),
        });
    }
    pieces.truncate(MAX_LETTERS);
    pieces
}

/// Damerau-Levenshtein distance, restricted, from a name to the nearest one that the pieces match.
fn distance(pieces: &[Piece], name: &[char]) -> usize {
    let is = |piece: usize, letter: usize| match pieces[piece] {
        Piece::Letter(own) => own == name[letter],
        Piece::One | Piece::Any => true,
    };
    let mut rows = vec![vec![0; name.len() + 1]; pieces.len() + 1];
    rows[0] = (0..=name.len()).collect();
    for i in 1..=pieces.len() {
        for j in 0..=name.len() {
            let above = rows[i - 1][j];
            if pieces[i - 1] == Piece::Any {
                // Nothing, or one letter more.
                let longer = if j > 0 { rows[i][j - 1] } else { above };
                rows[i][j] = above.min(longer);
                continue;
            }
            let mut best = above + 1;
            if j > 0 {
                let substituted = rows[i - 1][j - 1] + usize::from(!is(i - 1, j - 1));
                best = best.min(substituted).min(rows[i][j - 1] + 1);
            }
            let is_swapped = i > 1
                && j > 1
                && pieces[i - 2] != Piece::Any
                && is(i - 1, j - 2)
                && is(i - 2, j - 1);
            if is_swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[pieces.len()][name.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::mistake::similar;
    use super::*;
    use crate::config::Globs;

    #[test]
    fn a_glob_with_a_slip_resembles_what_it_was_meant_for() {
        for (pattern, name) in [
            ("git_statsu", "git_status"),
            ("gti_*", "git_log"),
            ("*_isue", "create_issue"),
            ("ge?_issue_*", "get_isue_comments"),
            ("{create,dlete}_repo", "delete_repo"),
            ("[gs]et_itme", "set_item"),
            ("**", "anything"),
            ("git__git_status", "git_status"),
            ("status", "git_status"),
            ("status_git", "git_status"),
            ("Git-Status", "git_status"),
        ] {
            assert!(resembles(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("svn_*", "git_log"),
            ("ad", "add"),
            ("*delete*", "remove"),
            ("{a,b}", "c"),
            ("git_status", "git_log"),
        ] {
            assert!(!resembles(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn what_matches_resembles(pattern in "[ab*?]{0,6}", name in "[abc]{0,8}") {
            let globs = Globs::new(vec![pattern.clone()]).expect("a glob");
            prop_assert!(!globs.matches(&name) || resembles(&pattern, &name));
        }

        #[test]
        fn of_a_plain_name_it_says_what_is_said_of_slips_elsewhere(word in "[a-d_]{0,9}", name in "[a-d_]{0,9}") {
            prop_assert_eq!(is_a_slip(&word, &name), similar(&word, [name.as_str()]).is_some());
        }
    }
}
