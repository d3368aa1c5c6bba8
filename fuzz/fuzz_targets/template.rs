//! No text makes the template reader panic, and literal text stays as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stdiopool::config::template::{Piece, Template};

fuzz_target!(|text: &str| {
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
});
