//! No text makes the template reader panic, and literal text stays as it is.
use stdiopool::config::template::{Piece, Template};

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(template) = Template::parse(text) {
        if !text.contains("${") {
            let literal: String = template
                .pieces()
                .iter()
                .map(|piece| match piece {
                    Piece::Literal(part) => part.as_str(),
                    Piece::Value { .. } => panic!("a reference in {text:?}"),
                })
                .collect();
            assert_eq!(literal, text);
        }
        assert!(template.references().count() <= text.matches("${").count());
    }
}
