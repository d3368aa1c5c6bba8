//! What the flags of npx and uvx mean for what is run. A flag that is in none of these lists is not known, and its line
//! is run as written; so is one whose meaning is a reason for that. Tests compare the lists with what the newest launchers say
//! that they take.

/// The effect of a flag on a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flag {
    /// Changes nothing of what is run.
    Idle,
    /// Changes nothing of what is run, and has a value.
    IdleWith,
    /// Says which package is meant; the installer is told the flag as it stands.
    Choosing,
    /// As [`Flag::Choosing`], with a value.
    ChoosingWith,
    /// Means something that only the launcher can do: why the line is run as written.
    Refused(&'static str),
}

const AS_ENV: &str = "decides which package is meant; set in `env` as `npm_config_…`, it would be heeded by installs";
const NETWORK: &str = "changes how the registry is asked; set in `env` as `npm_config_…`, it would be heeded by installs";
const OTHER_FOLDER: &str = "makes it work in another folder";
const WORKSPACES: &str = "runs it in workspaces";
const OTHER_ENTRY: &str = "runs something else than a package's program";
const ONLY_THERE: &str = "allows only what is there already";
const INSTALLS_OTHERWISE: &str = "changes what is installed beside the package";
const SCRIPTS: &str = "changes which install scripts run; set in `env` as `npm_config_…`, it would be heeded by installs";
const SOURCES: &str = "changes what may be installed from elsewhere than the registry";
const TELLS: &str = "prints something and runs nothing";
const OF_OTHERS: &str = "is of other commands of npm";
const OF_ENVIRONMENT: &str = "changes the environment of what is run";

/// Flags of npm, as they are called without dashes and `no-`: settings of npm 11 and 12, and the short forms of npx.
const NPM: [(Flag, &[&str]); 14] = [
    (
        Flag::Idle,
        &[
            "y",
            "yes",
            "q",
            "quiet",
            "s",
            "silent",
            "d",
            "dd",
            "ddd",
            "verbose",
            "color",
            "audit",
            "fund",
            "progress",
            "timing",
            "unicode",
            "update-notifier",
            "prefer-offline",
            "prefer-online",
            "foreground-scripts",
            "ignore-existing",
        ],
    ),
    (
        Flag::IdleWith,
        &["loglevel", "logs-dir", "logs-max", "audit-level", "heading"],
    ),
    (Flag::ChoosingWith, &["allow-scripts"]),
    (Flag::Choosing, &["dangerously-allow-all-scripts"]),
    (
        Flag::Refused(AS_ENV),
        &[
            "registry",
            "reg",
            "scope",
            "before",
            "enjoy-by",
            "min-release-age",
            "min-release-age-exclude",
            "tag",
            "engine-strict",
            "force",
            "f",
            "cpu",
            "os",
            "libc",
            "userconfig",
            "globalconfig",
            "replace-registry-host",
            "auth-type",
            "otp",
            "npm-version",
            "strict-npmrc",
        ],
    ),
    (
        Flag::Refused(NETWORK),
        &[
            "ca",
            "cafile",
            "cert",
            "key",
            "cidr",
            "proxy",
            "https-proxy",
            "noproxy",
            "strict-ssl",
            "local-address",
            "maxsockets",
            "fetch-retries",
            "fetch-retry-factor",
            "fetch-retry-maxtimeout",
            "fetch-retry-mintimeout",
            "fetch-timeout",
            "user-agent",
            "cache",
            "cache-max",
            "cache-min",
        ],
    ),
    (
        Flag::Refused(OTHER_FOLDER),
        &[
            "prefix",
            "C",
            "global",
            "g",
            "local",
            "location",
            "L",
            "package-lock-only",
            "dry-run",
        ],
    ),
    (
        Flag::Refused(WORKSPACES),
        &[
            "workspace",
            "w",
            "workspaces",
            "ws",
            "workspaces-update",
            "include-workspace-root",
            "iwr",
        ],
    ),
    (
        Flag::Refused(OTHER_ENTRY),
        &[
            "call",
            "c",
            "package",
            "p",
            "shell",
            "script-shell",
            "if-present",
            "git",
        ],
    ),
    (
        Flag::Refused(ONLY_THERE),
        &["offline", "n", "no", "install"],
    ),
    (
        Flag::Refused(INSTALLS_OTHERWISE),
        &[
            "also",
            "dev",
            "include",
            "omit",
            "omit-lockfile-registry-resolved",
            "only",
            "optional",
            "production",
            "bin-links",
            "global-style",
            "legacy-bundling",
            "legacy-peer-deps",
            "strict-peer-deps",
            "install-strategy",
            "install-links",
            "prefer-dedupe",
            "package-lock",
            "shrinkwrap",
            "lockfile-version",
            "save",
            "S",
            "save-bundle",
            "B",
            "save-dev",
            "D",
            "save-exact",
            "E",
            "save-optional",
            "O",
            "save-peer",
            "save-prefix",
            "save-prod",
            "P",
            "format-package-lock",
            "rebuild-bundle",
            "link",
            "allow-unused-patches",
            "patches-dir",
            "ignore-patch-failures",
            "extension-file",
            "ignore-extension",
            "edit-dir",
            "keep-edit-dir",
        ],
    ),
    (
        Flag::Refused(SCRIPTS),
        &[
            "ignore-scripts",
            "strict-allow-scripts",
            "allow-scripts-pending",
            "allow-scripts-pin",
            "node-gyp",
            "nodedir",
        ],
    ),
    (
        Flag::Refused(SOURCES),
        &["allow-directory", "allow-file", "allow-git", "allow-remote"],
    ),
    (Flag::Refused(OF_ENVIRONMENT), &["node-options"]),
];
/// Flags of npm that say something and run nothing.
const NPM_TELLS: [&str; 10] = [
    "help", "h", "H", "?", "usage", "version", "v", "versions", "long", "l",
];
/// Settings of npm that mean something to its other commands. With `exec`, what they do is not for anyone to rely on.
const NPM_OTHERS: [&str; 71] = [
    "access",
    "all",
    "a",
    "allow-same-version",
    "browser",
    "bypass-2fa",
    "commit-hooks",
    "depth",
    "description",
    "desc",
    "diff",
    "diff-dst-prefix",
    "diff-ignore-all-space",
    "diff-name-only",
    "diff-no-prefix",
    "diff-src-prefix",
    "diff-text",
    "diff-unified",
    "editor",
    "expect-result-count",
    "expect-results",
    "expires",
    "git-tag-version",
    "global-ignore-file",
    "include-attestations",
    "include-staged",
    "init-author-email",
    "init-author-name",
    "init-author-url",
    "init-license",
    "init-module",
    "init-private",
    "init-type",
    "init-version",
    "init.author.email",
    "init.author.name",
    "init.author.url",
    "init.license",
    "init.module",
    "init.version",
    "json",
    "message",
    "m",
    "name",
    "orgs",
    "orgs-permission",
    "pack-destination",
    "packages",
    "packages-all",
    "packages-and-scopes-permission",
    "parseable",
    "porcelain",
    "preid",
    "provenance",
    "provenance-file",
    "read-only",
    "readonly",
    "sbom-format",
    "sbom-type",
    "scopes",
    "searchexclude",
    "searchlimit",
    "searchopts",
    "searchstaleness",
    "sign-git-commit",
    "sign-git-tag",
    "tag-version-prefix",
    "to",
    "token-description",
    "umask",
    "viewer",
];

/// What a flag of npm means, without its dashes.
pub(super) fn of_npm(name: &str) -> Option<Flag> {
    let positive = name.strip_prefix("no-").unwrap_or(name);
    let own = NPM.iter().find(|(_, names)| names.contains(&positive));
    let found = own.map(|(flag, _)| *flag).or_else(|| {
        let tells = NPM_TELLS
            .contains(&positive)
            .then_some(Flag::Refused(TELLS));
        let is_others = NPM_OTHERS.contains(&positive) || positive == "which";
        tells.or_else(|| is_others.then_some(Flag::Refused(OF_OTHERS)))
    })?;
    // `--no-yes` and its like: only what is idle either way stays so when it is turned round.
    let is_turned = positive != name;
    Some(match found {
        Flag::Idle if is_turned && ["y", "yes"].contains(&positive) => Flag::Refused(ONLY_THERE),
        Flag::Choosing | Flag::ChoosingWith if is_turned => Flag::Refused(SCRIPTS),
        found => found,
    })
}

const A_FILE: &str = "names a file or a folder, which may change";
const BUILDS: &str = "changes how packages are built";
const WHICH_PYTHON: &str = "decides which Python may be used; `UV_PYTHON` in `env` would be heeded";
const PLATFORM: &str = "installs for another platform";
const CONFIGURES: &str = "changes what configures uv";
const VARIABLES: &str = "reads variables from a file";

/// Flags of uvx, with their dashes: those of uv 0.13 and, behind them, older names that it still takes.
const UV: [(Flag, &[&str]); 11] = [
    // `--refresh` among them: an install asks the index anyway, and again as often as `launch.refresh` says.
    (
        Flag::Idle,
        &[
            "-q",
            "--quiet",
            "-v",
            "--verbose",
            "--no-progress",
            "--isolated",
            "--refresh",
            "--no-cache",
            "--no-cache-dir",
            "-n",
            "--native-tls",
            "--no-native-tls",
            "--system-certs",
            "--no-system-certs",
            "--no-env-file",
            "-U",
            "--upgrade",
            "--reinstall",
            "--force-reinstall",
            "--compile-bytecode",
            "--no-compile-bytecode",
        ],
    ),
    (
        Flag::IdleWith,
        &[
            "--color",
            "--refresh-package",
            "--upgrade-package",
            "-P",
            "--reinstall-package",
            "--link-mode",
            "--cache-dir",
        ],
    ),
    (
        Flag::ChoosingWith,
        &[
            "--prerelease",
            "--prerelease-package",
            "--index",
            "--default-index",
            "-i",
            "--index-url",
            "--extra-index-url",
            "--index-strategy",
            "--keyring-provider",
            "--exclude-newer",
            "--exclude-newer-package",
            "--resolution",
            "--fork-strategy",
            "--allow-insecure-host",
            "--trusted-host",
            "--no-sources-package",
        ],
    ),
    (Flag::Choosing, &["--no-index", "--no-sources"]),
    (
        Flag::Refused(A_FILE),
        &[
            "--with-editable",
            "--with-requirements",
            "-c",
            "--constraints",
            "--constraint",
            "-b",
            "--build-constraints",
            "--build-constraint",
            "--overrides",
            "--override",
            "-f",
            "--find-links",
            "--upgrade-group",
        ],
    ),
    (
        Flag::Refused(BUILDS),
        &[
            "-C",
            "--config-setting",
            "--config-settings",
            "--config-settings-package",
            "--no-build-isolation",
            "--no-build-isolation-package",
            "--no-build",
            "--no-build-package",
            "--no-binary",
            "--no-binary-package",
            "--require-build-hashes",
            "--no-require-build-hashes",
            "--lfs",
        ],
    ),
    (
        Flag::Refused(WHICH_PYTHON),
        &[
            "--managed-python",
            "--no-managed-python",
            "--no-python-downloads",
            "--python-preference",
            "--allow-python-downloads",
            "--python-fetch",
        ],
    ),
    (
        Flag::Refused(PLATFORM),
        &["--python-platform", "--torch-backend"],
    ),
    (
        Flag::Refused(CONFIGURES),
        &[
            "--directory",
            "--project",
            "--config-file",
            "--no-config",
            "--preview",
            "--preview-features",
        ],
    ),
    (Flag::Refused(VARIABLES), &["--env-file"]),
    (Flag::Refused(ONLY_THERE), &["--offline"]),
];

/// What a flag of uvx means, with its dashes.
pub(super) fn of_uv(name: &str) -> Option<Flag> {
    if ["-V", "--version", "-h", "--help"].contains(&name) {
        return Some(Flag::Refused(TELLS));
    }
    let found = UV.iter().find(|(_, names)| names.contains(&name));
    found.map(|(flag, _)| *flag)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_flag_means_one_thing() {
        let lists = NPM.iter().map(|(_, names)| *names);
        let npm: Vec<_> = lists
            .chain([&NPM_TELLS[..], &NPM_OTHERS[..]])
            .flatten()
            .collect();
        let uv: Vec<_> = UV.iter().flat_map(|(_, names)| *names).collect();
        for names in [npm, uv] {
            let once: BTreeSet<_> = names.iter().collect();
            assert_eq!(once.len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn what_is_turned_round_means_something_else() {
        assert_eq!(of_npm("no-audit"), Some(Flag::Idle));
        assert_eq!(of_npm("no-yes"), Some(Flag::Refused(ONLY_THERE)));
        assert_eq!(of_npm("no-install"), Some(Flag::Refused(ONLY_THERE)));
        assert_eq!(of_npm("no-allow-scripts"), Some(Flag::Refused(SCRIPTS)));
        assert_eq!(of_npm("no-such-thing"), None);
        assert_eq!(of_uv("--no-such-thing"), None);
    }
}
