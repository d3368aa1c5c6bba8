//! What an install with scripts has of npm's beforehand: a cache with the tarballs of its lock file alone, copied from the one that all
//! installs share and no script reaches, and npm's settings without what they say to registries.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::install_error::InstallError;
use super::manifest::write_anew;
use super::place::InstallPlace;
use crate::launch::{is_for_installs, is_of_npm, is_one_variable};

/// Folder of npm's cache in which files are named by their digests (npm's package cacache); versions of it follow the dash.
const CACHE: &str = "_cacache";
const CONTENT: &str = "content-v";
/// What is in the names of settings, of npm's documentation and of `.npmrc`, by which npm says to a registry who it is.
const CREDENTIALS: [&str; 7] = [
    "_auth",
    "_password",
    "username",
    "certfile",
    "keyfile",
    "//",
    "otp",
];

/// Whether a lock file has packages that npm builds when it fetches them: of git.
pub(super) fn is_built_when_fetched(lock: &Value) -> bool {
    let packages = lock["packages"].as_object().into_iter().flatten();
    let mut from = packages.filter_map(|(_, package)| package["resolved"].as_str());
    from.any(|from| from.starts_with("git"))
}

/// Copies what a lock file names from one cache of npm's to another. What is not there, or what a later npm keeps otherwise, npm
/// fetches.
///
/// # Errors
/// When something cannot be copied.
pub(super) fn copy_content(lock: &Value, from: &Path, to: &Path) -> io::Result<()> {
    let versions = match fs::read_dir(from.join(CACHE)) {
        Ok(found) => found.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_content = |name: &str| name.starts_with(CONTENT);
    let packages = lock["packages"].as_object().into_iter().flatten();
    let digests = packages.filter_map(|(_, package)| package["integrity"].as_str());
    let paths: Vec<PathBuf> = digests
        .flat_map(|digests| digests.split_ascii_whitespace().filter_map(path_of))
        .collect();
    for version in versions {
        let name = version.file_name();
        if !name.to_str().is_some_and(is_content) {
            continue;
        }
        let target = to.join(CACHE).join(&name);
        for path in &paths {
            let (source, target) = (version.path().join(path), target.join(path));
            if source.is_file() && !target.exists() {
                fs::create_dir_all(target.parent().unwrap_or(to))?;
                fs::copy(&source, &target)?;
            }
        }
    }
    Ok(())
}

/// Where a file of that digest is (`sha512-BASE64`): `sha512/ab/cd/REST`.
fn path_of(digest: &str) -> Option<PathBuf> {
    let (algorithm, digest) = digest.split_once('-')?;
    let digest = digest.split('?').next()?;
    let bytes = data_encoding::BASE64.decode(digest.as_bytes()).ok()?;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric());
    if !is_word(algorithm) || hex.len() < 5 {
        return None;
    }
    Some(
        [algorithm, &hex[..2], &hex[2..4], &hex[4..]]
            .iter()
            .collect(),
    )
}

/// Puts the `.npmrc` that an environment names where what runs in that place reads it; without what registries know a caller by, where all is fetched.
///
/// # Errors
/// When it cannot be written.
pub(super) fn own_npmrc(
    place: &InstallPlace,
    env: &mut BTreeMap<String, String>,
    is_fetched: bool,
) -> Result<(), InstallError> {
    let name = "npm_config_userconfig";
    let named = env.iter().find(|(it, _)| is_one_variable(it, name));
    let Some(path) = named.map(|(_, path)| PathBuf::from(path)) else {
        return Ok(());
    };
    env.retain(|it, _| !is_one_variable(it, name));
    if let Ok(text) = std::fs::read_to_string(&path) {
        let text = match is_fetched {
            true => without_credentials(&text),
            false => text,
        };
        let own = place.settings("npmrc");
        write_anew(&own, text.as_bytes()).map_err(InstallError::file(own.clone(), "written"))?;
        env.insert(name.to_owned(), own.display().to_string());
    }
    Ok(())
}

/// Takes out of an environment what configures other installers than npm, and what is for registries' eyes.
pub(super) fn keep_from_scripts(env: &mut BTreeMap<String, String>) {
    let is_proxy = |name: &str| name.to_ascii_lowercase().ends_with("_proxy");
    env.retain(|name, value| {
        let is_kept = !is_for_installs(name) || is_of_npm(name) || is_proxy(name);
        is_kept && !(is_of_npm(name) && (is_credential(name) || has_user(value)))
    });
}

/// An `.npmrc` without what is for registries' eyes.
pub(super) fn without_credentials(npmrc: &str) -> String {
    let is_kept = |line: &&str| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        let is_proxy = name.trim().ends_with("proxy");
        !is_credential(name) && (is_proxy || !has_user(value))
    };
    let kept = npmrc.lines().filter(is_kept);
    kept.map(|line| format!("{line}\n")).collect()
}

fn is_credential(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase().replace('-', "_");
    let setting = name.strip_prefix("npm_config_").unwrap_or(&name);
    CREDENTIALS.iter().any(|part| match *part {
        "otp" | "username" => setting == *part,
        part => setting.contains(part),
    })
}

/// Whether a URL has a user in it.
fn has_user(value: &str) -> bool {
    let rest = value.split_once("://").map(|(_, rest)| rest);
    let host = rest.and_then(|rest| rest.split('/').next());
    host.is_some_and(|host| host.contains('@'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_lock_file_names_is_copied() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let content =
            |root: &Path, name: &str| root.join("_cacache/content-v2/sha512/00/01").join(name);
        fs::create_dir_all(content(&from, "")).expect("made");
        fs::write(content(&from, "0203"), "wanted").expect("written");
        fs::write(content(&from, "ffff"), "other").expect("written");
        let digest = data_encoding::BASE64.encode(&[0, 1, 2, 3]);
        let lock = json!({ "packages": {
            "node_modules/a": { "integrity": format!("sha1-AAAA sha512-{digest}") },
            "node_modules/b": { "integrity": "sha512-../../../etc" },
            "node_modules/c": { "resolved": "https://x/c.tgz" },
        } });
        copy_content(&lock, &from, &to).expect("copied");
        let copied = fs::read_to_string(content(&to, "0203"));
        assert_eq!(copied.expect("there"), "wanted");
        assert!(!content(&to, "ffff").exists());
        copy_content(&lock, &folder.path().join("none"), &to).expect("nothing to copy");
        assert!(!is_built_when_fetched(&lock));
        let of_git = json!({ "packages": { "a": { "resolved": "git+ssh://git@x/y.git#1" } } });
        assert!(is_built_when_fetched(&of_git));
    }

    #[test]
    fn scripts_do_not_see_how_registries_know_who_asks() {
        let set = |name: &str| (name.to_owned(), "x".to_owned());
        let mut env = BTreeMap::from(
            [
                "npm_config_registry",
                "NPM_CONFIG__AUTHTOKEN",
                "npm_config_//r.example/:_authToken",
                "UV_INDEX_ACME_PASSWORD",
                "PIP_INDEX_URL",
                "https_proxy",
                "npm_config_userconfig",
                "MINE",
            ]
            .map(set),
        );
        env.insert("npm_config_x".to_owned(), "https://me:key@r/".to_owned());
        keep_from_scripts(&mut env);
        let kept: Vec<&str> = env.keys().map(String::as_str).collect();
        let all = [
            "MINE",
            "https_proxy",
            "npm_config_registry",
            "npm_config_userconfig",
        ];
        assert_eq!(kept, all);
        let npmrc = "registry=https://r/\n//r/:_authToken=1\n_auth = x\nproxy=http://me:key@p/\n@a:registry=https://me:key@r/\nscript-shell=sh\n";
        assert_eq!(
            without_credentials(npmrc),
            "registry=https://r/\nproxy=http://me:key@p/\nscript-shell=sh\n"
        );
    }
}
