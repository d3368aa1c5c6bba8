//! Home folders as shells know them, and nobody else.

/// How a path begins that a shell would read as somebody's home folder: `~` and `$HOME` as names of folders, not as the
/// beginning of another name (`$HOMEPAGE`).
pub(super) fn home(text: &str) -> Option<&'static str> {
    let is_whole = |home: &&str| {
        let rest = text.strip_prefix(*home);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    ["~", "$HOME", "${HOME}"].into_iter().find(is_whole)
}

/// The home folder in a path, in a list of paths between colons, or in either behind the `=` of a flag or a setting; in any
/// other text, such as a URL, it is a text.
pub(super) fn home_in_paths(text: &str) -> Option<&'static str> {
    let is_name = |name: &str| {
        let name = name.trim_start_matches('-');
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
    };
    let value = match text.split_once('=') {
        Some((name, value)) if is_name(name) => value,
        _ => text,
    };
    let is_path = |path: &str| path.is_empty() || path.starts_with(['/', '.', '~', '$']);
    let mut paths = value.split(':');
    paths.clone().all(is_path).then(|| paths.find_map(home))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_folder_is_one_where_a_path_may_stand() {
        for (text, found) in [
            ("~", "~"),
            ("~/x", "~"),
            ("$HOME", "$HOME"),
            ("$HOME/x", "$HOME"),
            ("${HOME}/x", "${HOME}"),
            ("--root=~/x", "~"),
            ("ROOT=$HOME/x", "$HOME"),
            ("/usr/bin:$HOME/bin", "$HOME"),
            ("PATH=/usr/bin:~/bin:", "~"),
        ] {
            assert_eq!(home_in_paths(text), Some(found), "{text}");
        }
        for text in [
            "https://a/b?x=$HOME",
            "https://a/b?x=~/y",
            "https://a/~me/x",
            "select * from t where a=$HOME",
            "$HOMEPAGE",
            "$HOME_PAGE/x",
            "~bob/x",
            "a~/b",
            "me:~/x",
            "",
        ] {
            assert_eq!(home_in_paths(text), None, "{text}");
        }
    }
}
