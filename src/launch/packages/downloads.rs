//! What install scripts download beside their packages: browsers, mostly. Each kind has a folder in the package's entry, to which
//! a variable points when the package is installed and when it is run, so that it is there for all tenants, read-only like the
//! rest of the entry, as long as the entry is. Without that it lands in the HOME of the install, where no worker looks.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder of an entry with a folder for each of [`PLACES`].
const FOLDER: &str = "downloads";
/// HOME of the install, in the entry.
const HOME: &str = "home";
/// Variables that say where something is kept, and the name of its folder here.
const PLACES: [(&str, &str); 4] = [
    ("PLAYWRIGHT_BROWSERS_PATH", "playwright"),
    ("PUPPETEER_CACHE_DIR", "puppeteer"),
    ("CYPRESS_CACHE_FOLDER", "cypress"),
    ("SE_CACHE_PATH", "selenium"),
];

/// The downloads of one kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Downloaded {
    /// The variable that leads there.
    pub variable: String,
    /// The folder, from the entry's.
    pub folder: PathBuf,
    /// Names of what is in the folder.
    pub items: Vec<String>,
    /// How much that is, in bytes.
    pub bytes: u64,
}

impl fmt::Display for Downloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (items, kib) = (self.items.join(", "), self.bytes.div_ceil(1024));
        write!(f, "{items} ({kib} KiB, {})", self.variable)
    }
}

/// The files that an install has left beside its packages.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Left {
    /// Downloads that workers find by a variable.
    #[serde(default)]
    pub downloaded: Vec<Downloaded>,
    /// Files in the HOME of the install, where workers do not find them: paths from there.
    #[serde(default)]
    pub in_home: Vec<String>,
}

/// Lets an install in that folder put there what its scripts download. What the server sets itself stays.
///
/// # Errors
/// When a folder cannot be made.
pub(super) fn set_places(env: &mut BTreeMap<String, String>, entry: &Path) -> io::Result<()> {
    let home = entry.join(HOME);
    fs::create_dir_all(&home)?;
    name_npmrc(env);
    env.insert("HOME".to_owned(), home.display().to_string());
    env.remove("XDG_CACHE_HOME");
    for (variable, name) in PLACES {
        let folder = entry.join(FOLDER).join(name);
        if !env.contains_key(variable) {
            fs::create_dir_all(&folder)?;
            env.insert(variable.to_owned(), folder.display().to_string());
        }
    }
    Ok(())
}

/// Has npm's configuration stay where it is by that environment, whatever HOME will be.
pub(super) fn name_npmrc(env: &mut BTreeMap<String, String>) {
    let Some(home) = env.get("HOME") else { return };
    let npmrc = Path::new(home).join(".npmrc");
    let is_named = |name: &String| name.eq_ignore_ascii_case("npm_config_userconfig");
    if npmrc.is_file() && !env.keys().any(is_named) {
        let npmrc = npmrc.display().to_string();
        env.insert("npm_config_userconfig".to_owned(), npmrc);
    }
}

/// Says what an install has put there, and takes away what is empty.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn tidy(entry: &Path) -> io::Result<Left> {
    let mut left = Left::default();
    for (variable, name) in PLACES {
        let folder = Path::new(FOLDER).join(name);
        let items = items(&entry.join(&folder))?;
        if items.is_empty() {
            remove_empty(&entry.join(&folder))?;
            continue;
        }
        left.downloaded.push(Downloaded {
            variable: variable.to_owned(),
            bytes: size(&entry.join(&folder))?,
            folder,
            items,
        });
    }
    remove_empty(&entry.join(FOLDER))?;
    let home = entry.join(HOME);
    for item in items(&home)? {
        // Names such as `.cache` and `.config` say nothing by themselves.
        let inner = items(&home.join(&item)).unwrap_or_default();
        let is_folder = home.join(&item).symlink_metadata();
        if inner.is_empty() && is_folder.is_ok_and(|it| it.is_dir()) {
            remove_empty(&home.join(&item))?;
        } else if inner.is_empty() {
            left.in_home.push(item);
        } else {
            left.in_home
                .extend(inner.into_iter().map(|inner| format!("{item}/{inner}")));
        }
    }
    remove_empty(&home)?;
    Ok(left)
}

/// Names in a folder, in order; none if it is not there. No link is followed: scripts may have put one in its place.
fn items(folder: &Path) -> io::Result<Vec<String>> {
    if folder.symlink_metadata().is_ok_and(|it| it.is_symlink()) {
        return Ok(vec![]);
    }
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let names = found.map(|item| Ok(item?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::DirectoryNotEmpty
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// How much is in a folder, in bytes.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for item in fs::read_dir(folder)? {
        let item = item?;
        let meta = item.metadata()?;
        bytes += if meta.is_dir() {
            size(&item.path())?
        } else {
            meta.len()
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_scripts_put_there_is_told_and_what_is_empty_goes() {
        let entry = tempfile::tempdir().expect("a folder");
        let set = |name: &str| (name.to_owned(), "/mine".to_owned());
        let mut env = BTreeMap::from([set("HOME"), set("PUPPETEER_CACHE_DIR")]);
        set_places(&mut env, entry.path()).expect("made");
        assert_eq!(env["PUPPETEER_CACHE_DIR"], "/mine", "the server's own");
        let browsers = PathBuf::from(&env["PLAYWRIGHT_BROWSERS_PATH"]);
        fs::create_dir(browsers.join("chromium-1")).expect("made");
        fs::write(browsers.join("chromium-1/chrome"), "1234").expect("written");
        let cache = PathBuf::from(&env["HOME"]).join(".cache/thing");
        fs::create_dir_all(&cache).expect("made");
        let left = tidy(entry.path()).expect("tidied");
        assert_eq!(left.in_home, [".cache/thing"]);
        let [found] = &left.downloaded[..] else {
            panic!("{left:?}")
        };
        assert_eq!(
            (found.bytes, &*found.variable),
            (4, "PLAYWRIGHT_BROWSERS_PATH")
        );
        assert_eq!(found.items, ["chromium-1"]);
        assert_eq!(entry.path().join(&found.folder), browsers);
        assert!(!entry.path().join("downloads/cypress").exists());
    }
}
