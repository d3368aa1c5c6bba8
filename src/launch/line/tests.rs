use proptest::prelude::*;

use super::*;

fn words(line: &str) -> (String, Vec<Option<String>>) {
    let mut words = line.split(' ').map(ToOwned::to_owned);
    let program = words.next().expect("a program");
    (
        program,
        words.map(|word| (word != "?").then_some(word)).collect(),
    )
}

fn run(line: &str) -> Option<Result<PackageRun, NotUnderstood>> {
    let (program, args) = words(line);
    let args: Vec<_> = args.iter().map(Option::as_deref).collect();
    understand(&program, &args)
}

/// What is installed, which program is run, and with what.
fn shown(line: &str) -> String {
    let (_, args) = words(line);
    match run(line) {
        None => "no launcher".to_owned(),
        Some(Err(why)) => format!("as written: {why}"),
        Some(Ok(run)) => {
            let entry = match run.entry {
                Entry::OfPackage => "its own",
                Entry::Named(ref name) => name,
            };
            let tail: Vec<_> = run
                .tail
                .iter()
                .map(|at| args[*at].as_deref().unwrap_or("?"))
                .collect();
            format!("{} | {entry} | {}", run.recipe.id(), tail.join(" "))
        }
    }
}

#[test]
fn lines_of_npm_are_understood_as_npm_does() {
    for (line, expected) in [
        (
            "npx -y @a/b@1.2.3 --port 3 ?",
            "npm @a/b@1.2.3 | its own | --port 3 ?",
        ),
        ("/usr/bin/npx --package=c d -p e", "npm c | d | -p e"),
        ("npx -p c@^1 -p @x/y -- d -- e", "npm c@^1, @x/y | d | -- e"),
        ("npx -- a -y", "npm a | its own | -y"),
        ("npm exec -y --package c -- d -y", "npm c | d | -y"),
        ("npm x a b --silent c -- -d", "npm a | its own | b c -d"),
        ("npm exec -- @a/b@next", "npm @a/b@next | its own | "),
        ("pnpm dlx --package=a b c", "npm a by pnpm | b | c"),
        ("pnpx a c", "npm a by pnpm | its own | c"),
        ("bunx a@2 --bun", "npm a@2 by bun | its own | --bun"),
        ("bun x a", "npm a by bun | its own | "),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn lines_of_python_are_understood_as_their_launchers_do() {
    for (line, expected) in [
        (
            "uvx mcp-server-time@1.2 --tz ?",
            "pypi mcp-server-time==1.2 | mcp-server-time | --tz ?",
        ),
        (
            "uvx --from=a[x,y]>=1,<2 tool -p z",
            "pypi a[x,y]>=1,<2 | tool | -p z",
        ),
        (
            "uv tool run --with b,c -p 3.12 a@latest",
            "pypi a, b, c on python 3.12 | a | ",
        ),
        ("uvx -w b>=1,<2 -- a", "pypi a, b>=1,<2 | a | "),
        ("pipx run --spec a==1 b c", "pypi a==1 by pipx | b | c"),
        ("pipx run a==1", "pypi a==1 by pipx | a | "),
        (
            "uvx --refresh --no-cache --prerelease=allow --index https://x/simple a -q",
            "pypi a --prerelease=allow --index=https://x/simple | a | -q",
        ),
        ("uvx -i https://x a", "pypi a --index-url=https://x | a | "),
    ] {
        assert_eq!(shown(line), expected, "{line}");
    }
}

#[test]
fn what_may_mean_something_else_is_run_as_written() {
    for line in [
        "npx",
        "npx ?",
        "npx -y ?",
        "npx --call=x y",
        "npx --no a",
        "npx --offline a",
        "npx --yes=false a",
        "npx github:a/b",
        "npx a/b",
        "npx ./a",
        "npx ../a",
        "npx /a",
        "npx a.tgz",
        "npx a@file:x",
        "npx a@npm:b@1",
        "npx a@git+https://x/y",
        "npx https://x/y.tgz",
        "npx -p a",
        "npx -p a ./b",
        "npm exec -p c -- d",
        "npm exec",
        "npm exec --workspace x a",
        "pnpm dlx -c a",
        "bunx --bun a",
        "uvx",
        "uvx --from ? tool",
        "uvx --from git+https://x/y tool",
        "uvx --from ./x tool",
        "uvx --from a@git+https://x/y tool",
        "uvx --index-url",
        "uvx --index -x a",
        "uvx --with-requirements r.txt a",
        "uvx --env-file .env a",
        "uvx --with-editable . a",
        "uvx a@1,>2",
        "uvx a==",
        "uvx python",
        "uvx --from a python3.12",
        "pipx run --no-cache a",
        "pipx run https://x/y.py",
        "pipx run script.py",
    ] {
        assert!(matches!(run(line), Some(Err(_))), "{line}: {}", shown(line));
    }
    for line in [
        "node x.js",
        "python -m a",
        "npm run x",
        "uv run x",
        "pipx install x",
        "bun x.ts",
    ] {
        assert_eq!(shown(line), "no launcher", "{line}");
    }
}

#[test]
fn only_whole_versions_stay_the_same() {
    for (line, may_change) in [
        ("npx a@1.2.3", false),
        ("npx a@1.2.3-beta.1", false),
        ("npx a@1.2", true),
        ("npx a@latest", true),
        ("npx a", true),
        ("npx -p a@1.2.3 -p b c", true),
        ("uvx a@1.2", false),
        ("uvx a@latest", true),
        ("uvx --with b a==1", true),
        ("uvx --from a==1.* a", true),
    ] {
        let run = run(line).expect("a launcher").expect("understood");
        assert_eq!(run.recipe.may_change(), may_change, "{line}");
    }
}

fn any_word() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        4 => "(--?)?[a-z@/.=,<>\\[\\] :*+~^-]{0,12}".prop_map(Some),
        2 => prop::sample::select(vec![
            "-y", "--", "-p", "--package", "--from", "--with", "--python", "exec", "tool", "run",
            "dlx", "x", "a", "@a/b@1.2.3", "a[x]==1", "--spec",
        ]).prop_map(|word| Some(word.to_owned())),
        1 => Just(None),
    ]
}

proptest! {
    /// Whatever is understood: the rest is passed on untouched and in order, all of it that stands
    /// behind the program, and what goes to npm or uv can be taken for nothing but a package.
    #[test]
    fn nothing_panics_and_what_is_understood_is_safe(
        program in prop::sample::select(vec!["npx", "npm", "pnpm", "bunx", "bun", "uvx", "uv", "pipx"]),
        args in prop::collection::vec(any_word(), 0..8),
        more in prop::collection::vec(any_word(), 0..4),
    ) {
        let shown = |args: &[Option<String>]| {
            let args: Vec<_> = args.iter().map(Option::as_deref).collect();
            understand(program, &args)
        };
        let Some(Ok(run)) = shown(&args) else { return Ok(()) };
        prop_assert!(run.tail.is_sorted());
        prop_assert!(run.tail.iter().all(|at| *at < args.len()));
        let words: Vec<String> = match &run.recipe {
            Recipe::Npm { specs, .. } => specs.iter().map(ToString::to_string).collect(),
            Recipe::PyPi { requirements, .. } => requirements.iter().map(ToString::to_string).collect(),
        };
        prop_assert!(!words.is_empty());
        for word in &words {
            prop_assert!(!word.starts_with(['-', '.', '/']), "{word}");
            prop_assert!(!word.contains([':', ';', '\n', '#']), "{word}");
            prop_assert!(!word.contains("://"), "{word}");
        }
        if let Entry::Named(name) = &run.entry {
            prop_assert!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'));
        }
        // Words that are appended to a line that is understood go to the program, unless they are npm's.
        if program != "npm" {
            let longer: Vec<_> = args.iter().chain(&more).cloned().collect();
            let same = shown(&longer).expect("a launcher").expect("understood");
            prop_assert_eq!(&same.recipe, &run.recipe);
            prop_assert_eq!(&same.entry, &run.entry);
            prop_assert_eq!(same.tail.len(), run.tail.len() + more.len());
        }
    }
}
