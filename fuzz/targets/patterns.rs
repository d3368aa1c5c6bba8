//! Which tools a pattern allows or takes away, and which origins and hosts are let in: denying reaches further than allowing,
//! and an origin is let in as browsers write it only.

use stdiopool::config::{Globs, Origins, Tools, parse_size};
use stdiopool::protocol::{host_name, is_loopback_name};

use super::input::first_line;

pub(super) fn run(input: &[u8]) {
    let (pattern, name) = first_line(input);
    let (Ok(pattern), Ok(name)) = (std::str::from_utf8(pattern), std::str::from_utf8(name)) else {
        return;
    };
    tools(pattern, name);
    if let Ok(origins) = Origins::parse(&[pattern]) {
        assert_eq!(origins.allows_any(), pattern == "*");
        if origins.allows(name) && !origins.allows_any() {
            let (scheme, host) = name.split_once("://").expect("an origin has a scheme");
            assert!(!scheme.is_empty() && !host.is_empty());
            assert!(!host.contains(['/', '@', '?', '#', '*', ' ']), "{name}");
        }
    }
    if is_loopback_name(host_name(name)) {
        assert!(
            !name.contains(['/', '@', '?', '#', ' ', '%']),
            "`{name}` is taken for loopback"
        );
    }
    let _size = parse_size(pattern);
}

fn tools(pattern: &str, name: &str) {
    let Ok(globs) = Globs::new(vec![pattern.to_owned()]) else {
        return;
    };
    let is_match = globs.matches(name);
    assert_eq!(globs.matching(name).is_some(), is_match);
    assert!(
        !is_match || globs.taking(name).is_some(),
        "what denies matches at least what allows"
    );
    let everything = || Globs::new(vec!["*".to_owned()]).expect("a pattern");
    let none = || Globs::new(vec![]).expect("no pattern");
    let denied = Tools {
        allow: everything(),
        deny: globs.clone(),
        line: 1,
    };
    assert!(!(is_match && denied.offers(name)));
    // As a server reads it that does not tell upper from lower case.
    assert!(!is_match || !denied.offers(&name.to_ascii_uppercase()));
    let allowed = Tools {
        allow: globs,
        deny: none(),
        line: 1,
    };
    assert_eq!(allowed.offers(name), is_match);
}
