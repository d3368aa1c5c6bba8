//! Programs as far as it matters here: what downloads packages, what runs another program.

use super::word::Word;

/// Programs that download packages, by the settings that they go by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// npm, npx.
    Npm,
    /// pnpm, pnpx.
    Pnpm,
    /// yarn, of both generations.
    Yarn,
    /// bun, bunx.
    Bun,
    /// deno, of what it has from npm and JSR.
    Deno,
    /// corepack, which downloads package managers.
    Corepack,
    /// uv, uvx.
    Uv,
    /// pipx, which hands over to uv or pip.
    Pipx,
    /// pip.
    Pip,
    /// go, of modules.
    Go,
}

impl Family {
    /// All families of programs.
    pub const ALL: [Self; 10] = [
        Self::Npm,
        Self::Pnpm,
        Self::Yarn,
        Self::Bun,
        Self::Deno,
        Self::Corepack,
        Self::Uv,
        Self::Pipx,
        Self::Pip,
        Self::Go,
    ];

    /// What the names of the variables begin with, in lower case, by which it goes.
    pub fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["npm_config_"],
            Self::Pnpm => &["npm_config_", "pnpm_config_"],
            Self::Yarn => &["npm_config_", "yarn_"],
            Self::Bun => &["npm_config_", "bun_config_"],
            Self::Deno => &["npm_config_", "jsr_url"],
            Self::Corepack => &["corepack_npm_registry"],
            Self::Uv => &["uv_"],
            Self::Pipx => &["uv_", "pip_", "pipx_"],
            Self::Pip => &["pip_"],
            Self::Go => &["goproxy", "goprivate", "gonoproxy", "gosumdb", "gonosumdb"],
        }
    }
}

/// The kind of a program, by its use of the words behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The program runs scripts that are written in the line.
    Shell,
    /// The program runs another one that is named in the line.
    Runner,
    /// The program runs another one that is named in the line, with words that it reads elsewhere behind those of the line.
    Feeder,
    /// The program runs those that stand behind certain flags of it.
    Finder,
    /// The program runs a file in that language, which may do anything.
    Interpreter(&'static [Family]),
    /// The program runs things in an environment that is none of this process's.
    Elsewhere,
}

const SHELLS: [&str; 9] = [
    "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "fish", "eval",
];
const RUNNERS: [&str; 82] = [
    "env",
    "timeout",
    "nice",
    "ionice",
    "chrt",
    "taskset",
    "nohup",
    "setsid",
    "stdbuf",
    "unbuffer",
    "time",
    "exec",
    "command",
    "builtin",
    "if",
    "then",
    "else",
    "elif",
    "while",
    "until",
    "do",
    "!",
    "{",
    "sudo",
    "doas",
    "su",
    "runuser",
    "gosu",
    "su-exec",
    "setpriv",
    "prlimit",
    "chroot",
    "unshare",
    "bwrap",
    "firejail",
    "flock",
    "script",
    "strace",
    "ltrace",
    "nsenter",
    "numactl",
    "setarch",
    "linux32",
    "linux64",
    "runcon",
    "sg",
    "pkexec",
    "capsh",
    "fakeroot",
    "proot",
    "chpst",
    "envdir",
    "setuidgid",
    "softlimit",
    "s6-setuidgid",
    "cgexec",
    "systemd-inhibit",
    "catatonit",
    "eatmydata",
    "faketime",
    "torsocks",
    "proxychains",
    "proxychains4",
    "watch",
    "rlwrap",
    "cpulimit",
    "direnv",
    "op",
    "doppler",
    "infisical",
    "chamber",
    "cross-env",
    "dotenvx",
    "xvfb-run",
    "dbus-run-session",
    "dumb-init",
    "tini",
    "busybox",
    "corepack",
    "mise",
    "volta",
    "dotenv",
];
/// Programs that put words of their own, such as their input, behind those of the line.
const FEEDERS: [&str; 2] = ["xargs", "parallel"];
const OF_NODE: [Family; 6] = [
    Family::Npm,
    Family::Pnpm,
    Family::Yarn,
    Family::Bun,
    Family::Deno,
    Family::Corepack,
];
const OF_PYTHON: [Family; 3] = [Family::Uv, Family::Pipx, Family::Pip];

/// What a program does with what stands behind it; `None` for one that only takes it.
pub fn kind(name: &str) -> Option<Kind> {
    match name {
        _ if SHELLS.contains(&name) => Some(Kind::Shell),
        _ if RUNNERS.contains(&name) => Some(Kind::Runner),
        _ if FEEDERS.contains(&name) => Some(Kind::Feeder),
        "find" => Some(Kind::Finder),
        "node" | "nodejs" | "bun" | "deno" | "tsx" | "ts-node" => Some(Kind::Interpreter(&OF_NODE)),
        // Interpreters without packages by a downloader.
        "perl" | "ruby" | "php" | "lua" | "Rscript" | "tclsh" => Some(Kind::Interpreter(&[])),
        "docker" | "podman" | "nerdctl" | "kubectl" | "ssh" => Some(Kind::Elsewhere),
        _ if is_python(name) => Some(Kind::Interpreter(&OF_PYTHON)),
        _ => None,
    }
}

fn is_python(name: &str) -> bool {
    let version = name.strip_prefix("python").or(name.strip_prefix("pypy"));
    version.is_some_and(|it| it.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

const NPM: [&str; 14] = [
    "exec",
    "x",
    "install",
    "i",
    "add",
    "ci",
    "clean-install",
    "init",
    "create",
    "update",
    "up",
    "upgrade",
    "install-test",
    "it",
];
const PNPM: [&str; 9] = [
    "dlx", "install", "i", "add", "create", "update", "up", "import", "fetch",
];
const YARN: [&str; 7] = ["dlx", "install", "add", "create", "up", "upgrade", "global"];
const BUN: [&str; 8] = ["x", "install", "i", "add", "create", "c", "update", "init"];
const PIP: [&str; 3] = ["install", "download", "wheel"];
const GO: [&str; 6] = ["run", "install", "get", "build", "generate", "mod"];

/// Whether a word is a flag of an interpreter's behind which its program stands, as in `python -Ic` and `node --eval`.
pub(super) fn is_code_flag(word: &str) -> bool {
    let long = ["--eval", "--print", "eval"];
    let short = word.strip_prefix('-');
    long.contains(&word)
        || short.is_some_and(|it| it.ends_with(['c', 'e', 'E', 'p', 'r']) && it.len() <= 4)
            && !word.starts_with("--")
}

/// Programs that download the packages that they run.
pub(crate) const LAUNCHERS: [&str; 9] = [
    "npx", "npm", "pnpx", "pnpm", "bunx", "bun", "uvx", "uv", "pipx",
];

/// Whether programs of that name download packages, whatever their words; of those that only some words make do so, too.
pub(super) fn is_downloader(name: &str) -> bool {
    let others = ["yarn", "deno", "corepack", "pip", "pip3"];
    LAUNCHERS.contains(&name) || others.contains(&name)
}

/// The download of packages that a program does when it is started with some words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Download<'w> {
    /// The settings that the downloader goes by.
    pub(super) family: Family,
    /// The program; of a module of Python, the module.
    pub(super) program: &'w str,
    /// The words that are for it.
    pub(super) rest: &'w [Word],
}

/// What downloads packages when that program is started with these words; `None` if nothing does.
pub(super) fn downloads<'w>(program: &'w str, rest: &'w [Word]) -> Option<Download<'w>> {
    let among = |subcommands: &[&str]| subcommand(rest).is_some_and(|it| subcommands.contains(&it));
    // Without a package there is nothing to download.
    let any = || !rest.is_empty();
    let of = |family, downloads: bool| {
        downloads.then_some(Download {
            family,
            program,
            rest,
        })
    };
    match program {
        "npx" => of(Family::Npm, any()),
        "npm" => of(Family::Npm, among(&NPM)),
        "pnpx" => of(Family::Pnpm, any()),
        "pnpm" => of(Family::Pnpm, among(&PNPM)),
        "yarn" | "yarnpkg" => of(Family::Yarn, rest.is_empty() || among(&YARN)),
        "bunx" => of(Family::Bun, any()),
        "bun" => of(Family::Bun, among(&BUN)),
        "deno" => of(Family::Deno, rest.iter().any(is_of_deno)),
        "corepack" => of(Family::Corepack, any()),
        "uvx" | "uv" => of(Family::Uv, any()),
        "pipx" => of(Family::Pipx, any()),
        "pip" | "pip3" => of(Family::Pip, among(&PIP)),
        "go" => of(Family::Go, among(&GO)),
        _ if is_python(program) => {
            let at = rest.iter().take(8).position(|word| word.text() == "-m")?;
            let (module, rest) = rest.get(at + 1..)?.split_first()?;
            let is_tool = matches!(module.text(), "pip" | "pipx" | "uv");
            is_tool.then(|| downloads(module.text(), rest)).flatten()
        }
        _ => None,
    }
}

/// Whether a word of deno's names a package that it downloads.
fn is_of_deno(word: &Word) -> bool {
    let schemes = ["npm:", "jsr:", "https:", "http:"];
    schemes.iter().any(|scheme| word.text().starts_with(scheme))
}

/// The first word that is no flag, nor the value of one.
fn subcommand(rest: &[Word]) -> Option<&str> {
    let mut is_behind_flag = false;
    let mut last = None;
    for word in rest.iter().take(8) {
        let text = word.text();
        let is_flag = text.starts_with('-');
        if !is_flag && !is_behind_flag {
            return Some(text);
        }
        if !is_flag {
            last = Some(text);
        }
        is_behind_flag = is_flag && !text.contains('=');
    }
    last
}
