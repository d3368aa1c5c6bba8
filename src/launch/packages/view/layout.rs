//! What stands where in a view, and in the folder of a tenant's server that has its views.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::ViewError;
use crate::folders;

/// Link from a view to its entry.
pub(super) const SHARED: &str = "shared";

/// The record of what a view was made from.
pub(super) const ABOUT: &str = "view.json";

/// The file with the digest that each of a view's files had when it was made.
pub(super) const SHIPPED: &str = "shipped.json";

/// What the next version took over from it while workers still ran from it.
pub(super) const CARRIED: &str = "carried.json";

/// Names in a view that are not of the package.
pub(super) const PRIVATE: [&str; 4] = [SHARED, ABOUT, SHIPPED, CARRIED];

/// The prefix of the names of views that are being made.
pub(super) const UNFINISHED: &str = ".new-";

/// Files that a later version could not take over, beside the views.
pub(in super::super) const LEFT: &str = "left-behind";

/// Before the target of a link, in the list of what a view was made with: no digest begins so.
pub(super) const LINK: &str = "-> ";

/// Digests of files, and targets of links behind `-> `, by path.
pub(super) type Shipped = BTreeMap<String, String>;

/// What a view was made from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct About {
    /// The package, without a version.
    pub(super) package: String,
    pub(super) version: String,
    /// Path of the entry.
    pub(super) entry: PathBuf,
    /// Path of the view: scripts name it.
    pub(super) home: PathBuf,
    /// Dependencies of which it has copies too.
    #[serde(default)]
    pub(super) writable: Vec<String>,
}

/// A view that exists.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ExistingView {
    pub(super) number: u64,
    pub(super) about: About,
}

/// What a view was made with; nothing if its server has spoilt that list.
pub(super) fn shipped(view: &Path) -> Shipped {
    let text = folders::read_plain(&view.join(SHIPPED)).ok();
    let read = text.and_then(|text| serde_json::from_slice(&text).ok());
    read.unwrap_or_default()
}

/// The views below a folder, by number.
pub(super) fn list(root: &Path) -> Result<Vec<ExistingView>, ViewError> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(root).map_err(ViewError::io("read", root))? {
        let item = item.map_err(ViewError::io("read", root))?;
        let name = item.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let about = folders::read_plain(&item.path().join(ABOUT)).ok();
        if let Some(about) = about.and_then(|text| serde_json::from_slice(&text).ok()) {
            found.push(ExistingView { number, about });
        }
    }
    found.sort_by_key(|view| view.number);
    Ok(found)
}

/// A number above all that are in use, also by what is no view any more.
pub(super) fn unused_number(root: &Path) -> Result<u64, ViewError> {
    let items = std::fs::read_dir(root).map_err(ViewError::io("read", root))?;
    let numbers = items.filter_map(|item| item.ok()?.file_name().to_str()?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or(0) + 1)
}
