//! Flags and variables by which programs that download packages are told from where.

use super::programs::{Download, Family};
use super::word::Word;

/// A flag that is a downloader's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct OwnFlag {
    /// The flag's name, with its dashes.
    pub(super) name: String,
    /// Whether the flag and its value are alike for all tenants.
    pub(super) is_fixed: bool,
}

/// Flags of npm, pnpm, yarn, bun and deno that say from where packages come, without dashes.
const OF_NODE: [&str; 9] = [
    "registry",
    "reg",
    "userconfig",
    "globalconfig",
    "config.registry",
    "config.userconfig",
    "replace-registry-host",
    "npm-registry",
    "import-map",
];
/// Flags of uv, pipx and pip that do, without dashes; `pip-args` holds flags of pip.
const OF_PYTHON: [&str; 10] = [
    "i",
    "index",
    "index-url",
    "pypi-url",
    "default-index",
    "extra-index-url",
    "find-links",
    "f",
    "config-file",
    "pip-args",
];
/// Further flags with a value: the word behind one is no package.
const WITH_VALUE_NODE: [&str; 31] = [
    "package",
    "p",
    "call",
    "c",
    "cache",
    "prefix",
    "C",
    "dir",
    "cwd",
    "config",
    "loglevel",
    "scope",
    "tag",
    "before",
    "min-release-age",
    "https-proxy",
    "proxy",
    "noproxy",
    "cafile",
    "ca",
    "cert",
    "key",
    "workspace",
    "w",
    "allow-scripts",
    "script-shell",
    "shell",
    "node-options",
    "otp",
    "reporter",
    "user-agent",
];
const WITH_VALUE_PYTHON: [&str; 38] = [
    "from",
    "with",
    "w",
    "with-requirements",
    "with-editable",
    "python",
    "p",
    "spec",
    "suffix",
    "backend",
    "constraints",
    "constraint",
    "c",
    "overrides",
    "override",
    "build-constraints",
    "build-constraint",
    "b",
    "requirement",
    "r",
    "exclude-newer",
    "directory",
    "project",
    "cache-dir",
    "refresh-package",
    "upgrade-package",
    "P",
    "reinstall-package",
    "prerelease",
    "resolution",
    "link-mode",
    "index-strategy",
    "keyring-provider",
    "color",
    "env-file",
    "config-setting",
    "allow-insecure-host",
    "trusted-host",
];

impl Family {
    fn is_of_python(self) -> bool {
        matches!(self, Self::Uv | Self::Pipx | Self::Pip)
    }

    /// Whether a flag, with or without its dashes, says from where packages come.
    pub(super) fn is_registry_flag(self, flag: &str) -> bool {
        let name = flag.trim_start_matches('-');
        match self {
            Self::Uv | Self::Pipx | Self::Pip => OF_PYTHON.contains(&name),
            Self::Bun if matches!(name, "c" | "config") => true,
            Self::Deno if name == "config" => true,
            Self::Npm | Self::Pnpm | Self::Yarn | Self::Bun | Self::Deno | Self::Corepack => {
                OF_NODE.contains(&name) || name.ends_with(":registry")
            }
            Self::Go => false,
        }
    }

    fn takes_value(self, flag: &str) -> bool {
        let name = flag.trim_start_matches('-');
        let others: &[&str] = match self.is_of_python() {
            true => &WITH_VALUE_PYTHON,
            false => &WITH_VALUE_NODE,
        };
        self.is_registry_flag(flag) || others.contains(&name)
    }
}

/// The flags among a downloader's words that are its own: up to the package, as what follows is the package's; up to `--`
/// where it takes flags behind the package too.
pub(super) fn own_flags(download: &Download<'_>) -> Vec<OwnFlag> {
    let Download {
        family,
        program,
        rest,
    } = *download;
    let first = rest.iter().map(Word::text).find(|it| !it.starts_with('-'));
    // npx knows no such words: they would be packages.
    let has_subcommand = !matches!(program, "npx" | "pnpx" | "bunx" | "uvx");
    let runs_one = !has_subcommand
        || matches!(family, Family::Pipx | Family::Deno)
        || matches!(first, Some("dlx" | "tool" | "run"))
        || (family == Family::Bun && first == Some("x"));
    // Words in front of the package that are none of its: `tool run`.
    let mut in_front: usize = match first {
        _ if !has_subcommand => 0,
        Some("tool" | "pip") if family == Family::Uv => 2,
        _ => 1,
    };
    let mut flags = Vec::new();
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let text = word.text();
        if text == "--" {
            break;
        }
        if !text.starts_with('-') {
            if in_front == 0 && runs_one {
                break;
            }
            in_front = in_front.saturating_sub(1);
            continue;
        }
        let (name, inline) = match text.split_once('=') {
            Some((name, _)) => (name, true),
            None => (text, false),
        };
        let value = match !inline && family.takes_value(name) {
            true => words.next(),
            false => None,
        };
        flags.push(OwnFlag {
            name: name.to_owned(),
            is_fixed: word.is_fixed() && value.is_none_or(Word::is_fixed),
        });
    }
    flags
}

/// Whether a program that downloads packages is told by a variable of that name where they come from.
pub fn is_registry_variable(variable: &str) -> bool {
    let name = variable.to_ascii_lowercase().replace('-', "_");
    let of_node = ["npm_config_", "pnpm_config_", "bun_config_"];
    let of_node = of_node.iter().find_map(|prefix| name.strip_prefix(prefix));
    let others = [
        "uv_index",
        "uv_index_url",
        "uv_default_index",
        "uv_extra_index_url",
        "uv_find_links",
        "uv_config_file",
        "pip_index_url",
        "pip_extra_index_url",
        "pip_find_links",
        "pip_config_file",
        "yarn_registry",
        "yarn_npm_registry_server",
        "yarn_rc_filename",
        "corepack_npm_registry",
        "jsr_url",
        "goproxy",
    ];
    of_node.is_some_and(|rest| {
        matches!(rest, "registry" | "userconfig" | "globalconfig") || rest.ends_with(":registry")
    }) || others.contains(&&*name)
}
