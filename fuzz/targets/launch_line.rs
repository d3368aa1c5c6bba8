//! No command line makes the reader of launchers' lines panic, and what it understands hands npm and
//! uv nothing but names of packages, and the program nothing but what stood behind it.
use stdiopool::launch::line::{Entry, Recipe, understand};

pub(super) fn run(input: &[u8]) {
    let Ok(line) = std::str::from_utf8(input) else {
        return;
    };
    let mut words = line.split('\n');
    let Some(program) = words.next() else { return };
    let args: Vec<Option<&str>> = words.map(|word| (word != "?").then_some(word)).collect();
    let Some(Ok(run)) = understand(program, &args) else {
        return;
    };
    assert!(run.tail.is_sorted());
    assert!(run.tail.iter().all(|at| *at < args.len()));
    let words: Vec<String> = match &run.recipe {
        Recipe::Npm { specs, .. } => specs.iter().map(ToString::to_string).collect(),
        Recipe::PyPi { requirements, .. } => requirements.iter().map(ToString::to_string).collect(),
    };
    assert!(!words.is_empty());
    for word in &words {
        assert!(!word.starts_with(['-', '.', '/', ' ']), "{word:?}");
        assert!(
            !word.contains([':', ';', '#', '\n', '\r', '\0']),
            "{word:?}"
        );
    }
    if let Entry::Named(name) = &run.entry {
        assert!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    }
}
