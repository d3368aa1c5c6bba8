//! The fuzz targets as tests: each over its kept corpus (`fuzz/corpus`) and over mutations of it, the same ones in every run. What
//! libFuzzer finds, where `scripts/fuzz` can run, is kept in the corpus, and so is tested here from then on.

mod mutate;
#[allow(
    unreachable_pub,
    reason = "a crate of its own where libFuzzer drives it"
)]
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// Mutations that a target is run on, at most; `STDIOPOOL_FUZZ_ROUNDS` asks for others.
const ROUNDS: usize = 3_000;
/// How long one target takes at most, where the rounds were not asked for: those that each take much are run less often.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// Mutations that a target is run on however long they take.
const AT_LEAST: usize = 30;
/// Longest mutation, in bytes.
const LONGEST: usize = 4 << 10;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.into_string().expect("a name"))
        .collect()
}

/// What is kept for a target: names and texts, in the order of the names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder("corpus").join(target);
    let names = names_in(&folder).into_iter();
    names
        .map(|name| {
            let text = fs::read(folder.join(&name)).expect("a file of the corpus");
            (name, text)
        })
        .collect()
}

/// Runs the target on that, and says on what it failed.
fn run(target: &str, what: &str, input: &[u8]) {
    let outcome = catch_unwind(AssertUnwindSafe(|| targets::run(target, input)));
    if outcome.is_err() {
        let shown = input.escape_ascii();
        panic!(
            "`{target}` fails on {what}: put it into fuzz/corpus/{target} (a byte string): b\"{shown}\""
        );
    }
}

fn fuzz(target: &str) {
    let kept = corpus(target);
    assert!(
        kept.len() >= 10,
        "`{target}` has a corpus of {}",
        kept.len()
    );
    for (name, input) in &kept {
        run(target, name, input);
    }
    let asked = std::env::var("STDIOPOOL_FUZZ_ROUNDS").ok();
    let asked: Option<usize> = asked.map(|rounds| rounds.parse().expect("a number of rounds"));
    let begun = Instant::now();
    let mut mutator = Mutator::new(target, kept.into_iter().map(|(_, text)| text).collect());
    for round in 0..asked.unwrap_or(ROUNDS) {
        if asked.is_none() && round >= AT_LEAST && begun.elapsed() > PATIENCE {
            break;
        }
        let input = mutator.next(LONGEST);
        run(target, &format!("round {round}"), &input);
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            fuzz(stringify!($target));
        })*

        const TESTED: &[&str] = &[$(stringify!($target)),*];
    };
}

targets! {
    addressed aggregate client_config config envelope escape framing guard http_framing id_scanner introductions launch_line
    members mux patterns policy repair sse stateless template trace_context
}

/// A target that is in one of the lists alone is run by nobody.
#[test]
fn every_target_is_a_test_a_program_and_has_a_corpus() {
    let known: BTreeSet<String> = targets::TARGETS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    let tested: BTreeSet<String> = TESTED.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(known, tested);
    assert_eq!(known, names_in(&folder("corpus")));
    let programs = names_in(&folder("fuzz_targets"));
    let programs: BTreeSet<String> = programs
        .iter()
        .map(|name| name.trim_end_matches(".rs").to_owned())
        .collect();
    assert_eq!(known, programs);
    let manifest = fs::read_to_string(folder("Cargo.toml")).expect("the manifest");
    for name in &known {
        let source = fs::read_to_string(folder("fuzz_targets").join(format!("{name}.rs")))
            .expect("a program");
        let runs = format!(
            "libfuzzer_sys::fuzz_target!(|input: &[u8]| stdiopool_fuzz::run(\"{name}\", input));"
        );
        assert!(source.contains(&runs), "{name} runs another target");
        assert!(
            manifest.contains(&format!(
                "name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\""
            )),
            "{name} is no program"
        );
    }
}
