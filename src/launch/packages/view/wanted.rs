//! What a private view is wanted of.

use std::path::Path;

/// The package that a view is wanted of.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The package, without a version: what servers of it wrote is carried over from version to version.
    pub package: &'a str,
    /// The package's version, for people.
    pub version: &'a str,
    /// Path of the entry.
    pub entry: &'a Path,
    /// The program, from the entry's folder.
    pub program: &'a Path,
    /// Dependencies that the server may write too; `*` for all.
    pub writable: &'a [String],
    /// The user that the server runs as; `None` for stdiopool's own.
    pub user: Option<u32>,
}
