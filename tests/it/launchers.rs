//! A launch line means what its launcher means: each line is run by the launcher itself and by stdiopool, with one
//! environment, and what the program tells of itself is compared.
//!
//! npm, pnpm, bun and pipx of the versions below come from `tests/launchers.sh`, which `scripts/test` runs.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::support::registry::{Registry, launchers};
use super::support::{Stdiopool, until};

/// Where launchers are, and what they share.
struct Bench {
    registry: Registry,
    dir: tempfile::TempDir,
}

type Variables = BTreeMap<String, String>;

/// How stdiopool is to run a line.
#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Directly,
    AsWritten,
}

impl Bench {
    fn new() -> Self {
        let dir = crate::support::open_folder().expect("a folder");
        std::fs::create_dir(dir.path().join("home")).expect("a folder");
        Self {
            registry: Registry::start(),
            dir,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// An environment in which that launcher comes first.
    fn env(&self, launcher: &str, more: &[(&str, &str)]) -> Variables {
        let url = &self.registry.url;
        let mut path = std::env::var("PATH").expect("a PATH");
        if !launcher.is_empty() {
            path = format!("{}:{path}", launchers(launcher).display());
        }
        let more = more.iter().map(|(name, value)| {
            let value = value.replace("URL", url);
            ((*name).to_owned(), value)
        });
        let fixed = [
            ("PATH", path),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            ("npm_config_registry", url.clone()),
            ("npm_config_cache", self.path("npm-cache")),
            ("UV_DEFAULT_INDEX", format!("{url}/simple")),
            ("UV_CACHE_DIR", self.path("uv-cache")),
        ];
        let fixed = fixed.map(|(name, value)| (name.to_owned(), value));
        fixed.into_iter().chain(more).collect()
    }

    /// What the program tells when the launcher itself runs it; or how that failed.
    fn by_launcher(&self, line: &[&str], env: &Variables) -> Result<Value, String> {
        let asked = [
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}),
            json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "tell"}}),
        ];
        let mut command = Command::new(line[0]);
        command.args(&line[1..]).env_clear().envs(env);
        command.env("HOME", self.path("home"));
        command.current_dir(self.path("home"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        #[allow(
            clippy::disallowed_methods,
            reason = "the launcher is what is compared with"
        )]
        let mut child = command.spawn().expect("the launcher runs");
        let mut stdin = child.stdin.take().expect("piped");
        for message in asked {
            // One that has failed reads nothing.
            let _failed = writeln!(stdin, "{message}");
        }
        drop(stdin);
        let mut said = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_to_string(&mut said)
            .expect("text");
        let output = child.wait_with_output().expect("ends");
        let answers = said
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut answers = answers.filter(|answer: &Value| answer["id"] == 2);
        let Some(answer) = answers.next() else {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{}: {said}{why}", output.status));
        };
        let text = answer["result"]["content"][0]["text"].as_str();
        Ok(serde_json::from_str(text.expect("text")).expect("JSON"))
    }

    /// What it tells behind stdiopool, or how its start failed; and how it was run.
    async fn by_stdiopool(&self, line: &[&str], env: &Variables) -> (Result<Value, String>, How) {
        let dir = crate::support::open_folder().expect("a folder");
        let settings = env
            .iter()
            .map(|(name, value)| format!("{name:?} = {value:?}\n"));
        let settings: String = settings.collect();
        // It shares caches with the launcher, which runs as who runs the tests.
        let toml = format!(
            "[pool]\nqueue_timeout = \"3m\"\npass_env = [\"PIP_FIND_LINKS\"]\n[servers.probe]\nsandbox = \"none\"\ncommand = {:?}\nargs = {:?}\nstart_timeout = \"60s\"\n[servers.probe.env]\n{settings}",
            line[0],
            &line[1..],
        );
        Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml);
        let config = dir.path().join("pool.toml").display().to_string();
        let own = [("PATH", env["PATH"].as_str())];
        let mut pool = Stdiopool::run(dir, &["--config".to_owned(), config], &own);
        let client = pool.client("probe");
        let hello = client.try_initialize("2025-11-25", json!({})).await;
        let told = if hello.response().get("result").is_some() {
            let client = pool.client("probe").connect().await;
            let answer = client.call("tell", json!({})).await;
            Ok(serde_json::from_str(answer.text()).expect("JSON"))
        } else {
            Err(hello.message().to_owned())
        };
        pool.terminate();
        // Its last line: what was said before has been read too.
        let log = until("the log is read", || {
            Some(pool.log()).filter(|log| log.contains("draining"))
        });
        // The second where that start fails as well.
        let said = ["is run as written", "run as written instead"];
        let how = match said.iter().any(|said| log.contains(said)) {
            true => How::AsWritten,
            false => How::Directly,
        };
        (told, how)
    }

    /// Runs a line in both ways, and checks that they agree, on that version.
    async fn agree(&self, line: &str, env: &Variables, version: Option<&str>, how: How) {
        let line = line.replace("URL", &self.registry.url);
        let words: Vec<&str> = line.split(' ').collect();
        let launcher = self.by_launcher(&words, env);
        let (told, was) = self.by_stdiopool(&words, env).await;
        match (version, launcher, told) {
            (Some(version), Ok(launcher), Ok(told)) => {
                assert_eq!(launcher["version"], version, "{line}: {launcher}");
                assert_eq!(told, launcher, "{line}");
            }
            (None, Err(_), Err(_)) => {}
            (_, launcher, told) => panic!("{line}: {launcher:?} and {told:?}"),
        }
        assert_eq!(was, how, "{line}");
    }
}

#[tokio::test]
async fn lines_of_npm_run_what_npm_runs() {
    let bench = Bench::new();
    for npm in ["npm11", "npm12"] {
        let plain = bench.env(npm, &[]);
        let odd = [
            ("npm_config_save", "false"),
            ("npm_config_lockfile_version", "1"),
            ("npm_config_node_options", "--max-old-space-size=333"),
        ];
        let odd = bench.env(npm, &odd);
        for (line, env, version) in [
            ("npx -y @x/probe a -b", &plain, "2.0.0"),
            (
                "npx --prefer-online --loglevel error -y aged -y",
                &plain,
                "1.1.0",
            ),
            // Of a newer one, this node is too old.
            ("npx -y engined", &plain, "1.0.0"),
            ("npx --no-audit -y aged --port 3", &plain, "1.1.0"),
            ("npx -y --no-audit aged x --port 3", &plain, "1.1.0"),
            ("npx -y --allow-scripts=shim scripted", &plain, "1.0.0"),
            ("npx -y lacking", &plain, "1.0.0"),
            ("npx -y twofold", &odd, "1.0.0"),
        ] {
            bench.agree(line, env, Some(version), How::Directly).await;
        }
        // npx takes the package for the value of the flag, and what follows for its own flags.
        let swallowed = "npx -y --no-audit aged --port 3";
        let version = (npm == "npm11").then_some("1.1.0");
        bench
            .agree(swallowed, &plain, version, How::AsWritten)
            .await;
        // What is installed globally comes first.
        let prefix = bench.path(&format!("global-{npm}"));
        let global = bench.env(npm, &[("npm_config_prefix", &prefix)]);
        let install = Command::new("npm")
            .args(["install", "--global", "@x/probe@1.0.0"])
            .env_clear()
            .envs(&global)
            .status();
        assert!(install.expect("npm runs").success());
        for line in ["npx -y @x/probe", "npx -y @x/probe@^1"] {
            bench
                .agree(line, &global, Some("1.0.0"), How::AsWritten)
                .await;
        }
        let other = "npx -y @x/probe@2.0.0";
        bench
            .agree(other, &global, Some("2.0.0"), How::Directly)
            .await;
    }
}

#[tokio::test]
async fn lines_of_pnpm_and_bun_run_what_they_run() {
    let bench = Bench::new();
    let pnpm10 = bench.env("pnpm10", &[]);
    let newer_node =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/node/node_modules/node/bin");
    let [pnpm11, pnpm12] = ["pnpm11", "pnpm12"].map(|pnpm| {
        let mut env = bench.env(pnpm, &[("PNPM_CONFIG_REGISTRY", "URL")]);
        let path = format!("{}:{}", newer_node.display(), env["PATH"]);
        env.insert("PATH".to_owned(), path);
        env
    });
    let bun = bench.env("bun", &[]);
    let mut own = bench.env("bun", &[("BUN_CONFIG_REGISTRY", "URL")]);
    own.insert(
        "npm_config_registry".to_owned(),
        "http://127.0.0.1:9".to_owned(),
    );
    for (line, env, version, how) in [
        ("pnpm dlx aged x", &pnpm10, Some("1.1.0"), How::Directly),
        // Whatever this node is.
        ("pnpm dlx engined", &pnpm10, Some("2.0.0"), How::AsWritten),
        ("pnpm dlx twofold", &pnpm10, None, How::AsWritten),
        // What was published less than a day ago is too young.
        ("pnpm dlx aged x", &pnpm11, Some("1.0.0"), How::AsWritten),
        ("pnpm dlx aged x", &pnpm12, Some("1.0.0"), How::AsWritten),
        ("pnpm dlx twofold", &pnpm12, None, How::AsWritten),
        ("bunx aged x", &bun, Some("1.1.0"), How::Directly),
        ("bunx engined", &bun, Some("2.0.0"), How::AsWritten),
        ("bunx twofold", &bun, Some("1.0.0"), How::Directly),
        ("bunx aged", &own, Some("1.1.0"), How::AsWritten),
    ] {
        bench.agree(line, env, version, how).await;
    }
}

/// A Python beside the usual one.
fn other_python() -> String {
    let usual = version_of("python3").expect("a python3");
    let pyenv = std::env::var("HOME").map(|home| format!("{home}/.pyenv/versions"));
    let pyenv = pyenv.ok().and_then(|folder| std::fs::read_dir(folder).ok());
    let of_pyenv = pyenv.into_iter().flatten().filter_map(Result::ok);
    let of_pyenv = of_pyenv.map(|entry| entry.path().join("bin/python3").display().to_string());
    let named = (9..20).map(|minor| format!("python3.{minor}"));
    let is_other = |python: &String| {
        version_of(python).is_some_and(|version| {
            version != usual && !version.starts_with("3.6") && !version.starts_with("3.7")
        })
    };
    let mut others = named.chain(of_pyenv).filter(is_other);
    others
        .next()
        .expect("a second Python 3 is needed for this test")
}

fn version_of(python: &str) -> Option<String> {
    let show = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    let output = Command::new(python).args(["-c", show]).output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    Some(version.trim().to_owned()).filter(|version| !version.is_empty())
}

#[tokio::test]
async fn lines_of_uv_and_pipx_run_what_they_run() {
    let bench = Bench::new();
    let plain = bench.env("", &[]);
    let python = other_python();
    let other = bench.env("", &[("UV_PYTHON", &python)]);
    let file = bench.path("variables");
    std::fs::write(&file, "FROM_FILE=yes\n").expect("a file");
    let from_file = bench.env("", &[("UV_ENV_FILE", &file)]);
    let older = bench.path("uv.toml");
    std::fs::write(&older, "exclude-newer = \"2024-06-01T00:00:00Z\"\n").expect("a file");
    let older = bench.env("", &[("UV_CONFIG_FILE", &older)]);
    let tools = [
        ("UV_TOOL_DIR", bench.path("tools")),
        ("UV_TOOL_BIN_DIR", bench.path("tools-bin")),
    ];
    let tools = bench.env(
        "",
        &tools
            .each_ref()
            .map(|(name, value)| (*name, value.as_str())),
    );
    let install = Command::new("uv")
        .args(["tool", "install", "--quiet", "probe-py==1.0.0"])
        .env_clear()
        .envs(&tools)
        .status();
    assert!(install.expect("uv runs").success());
    let named = format!("uvx --python {python} probe-py");
    for (line, env, version, how) in [
        ("uvx probe-py a -q", &plain, "2.1.0", How::Directly),
        (
            "uvx --prerelease=allow probe-py",
            &plain,
            "3.0.0rc1",
            How::Directly,
        ),
        (
            "uvx --refresh --no-cache --index URL/simple probe-py@2.0.0",
            &plain,
            "2.0.0",
            How::Directly,
        ),
        (
            "uvx --exclude-newer 2024-06-01 probe-py",
            &plain,
            "2.0.0",
            How::Directly,
        ),
        (named.as_str(), &plain, "2.1.0", How::Directly),
        ("uvx probe-py", &other, "2.1.0", How::Directly),
        ("uvx probe-py", &older, "2.0.0", How::Directly),
        ("uvx probe-py", &from_file, "2.1.0", How::AsWritten),
        ("uvx probe-py", &tools, "1.0.0", How::AsWritten),
    ] {
        bench.agree(line, env, Some(version), how).await;
    }
    // pip's own configuration says where from, if there is one.
    let is_configured = Path::new("/etc/pip.conf").exists();
    let how = if is_configured {
        How::AsWritten
    } else {
        How::Directly
    };
    let pipx = bench.env("pipx", &[]);
    bench
        .agree("pipx run probe-py b", &pipx, Some("2.1.0"), how)
        .await;
    let other = bench.env("pipx", &[("PIPX_DEFAULT_PYTHON", &python)]);
    bench
        .agree("pipx run probe-py", &other, Some("2.1.0"), how)
        .await;
}

/// The flags that a launcher says it takes, with their dashes.
fn flags_of_help(help: &str) -> Vec<String> {
    let is_flag = |word: &&str| word.starts_with('-') && word.len() > 1;
    let lines = help.lines().map(str::trim_start).filter(is_flag);
    let words = lines.flat_map(|line| line.split(' ').take_while(|word| word.starts_with('-')));
    let mut flags: Vec<String> = words
        .map(|word| word.trim_end_matches([',', '.']).to_owned())
        .collect();
    flags.retain(|flag| flag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
    flags.sort();
    flags.dedup();
    flags
}

/// That what a flag changes is known: its line is understood, or run as written for a reason.
fn is_known(program: &str, flag: &str) {
    let is_known = |args: &[&str]| {
        let args: Vec<_> = args.iter().map(|arg| Some(*arg)).collect();
        match stdiopool::launch::understand(program, &args).expect("a launcher") {
            Ok(_) => true,
            Err(why) => !why.to_string().contains("is not known"),
        }
    };
    let known = is_known(&[flag, "a", "b"]) || is_known(&[flag, "-q", "b"]);
    assert!(
        known,
        "what `{program} {flag}` changes: src/launch/line/flags.rs does not say"
    );
}

#[test]
fn each_flag_of_the_newest_launchers_is_known() {
    let help = Command::new("uvx")
        .arg("--help")
        .output()
        .expect("uvx runs");
    let help = String::from_utf8(help.stdout).expect("text");
    let flags = flags_of_help(&help);
    assert!(flags.len() > 60, "{flags:?}");
    for flag in flags {
        is_known("uvx", &flag);
    }
    for npm in ["npm11", "npm12"] {
        // Whatever npm can be configured by is a flag of npx.
        let listed = Command::new(launchers(npm).join("npm"))
            .args(["config", "ls", "-l", "--json"])
            .output()
            .expect("npm runs");
        let settings: BTreeMap<String, Value> =
            serde_json::from_slice(&listed.stdout).expect("JSON");
        assert!(settings.len() > 150, "{settings:?}");
        // Those of registries are no flags: `//registry/:_authToken`, `@scope:registry`.
        let flags = settings.keys().filter(|name| !name.contains([':', '_']));
        for name in flags {
            is_known("npx", &format!("--{name}"));
            is_known("npx", &format!("--no-{name}"));
        }
        // Short forms, which it tells only in its sources.
        let sources = launchers(npm).join("../npm/node_modules/@npmcli/config/lib/definitions");
        let show = "console.log(Object.keys(require(process.argv[1]).shorthands).join(' '))";
        let shown = Command::new("node")
            .args(["-e", show])
            .arg(&sources)
            .output()
            .expect("node runs");
        let shown = String::from_utf8(shown.stdout).expect("text");
        assert!(shown.contains("reg"), "{shown}");
        for name in shown.split_whitespace() {
            let dashes = if name.len() == 1 { "-" } else { "--" };
            is_known("npx", &format!("{dashes}{name}"));
        }
    }
}
