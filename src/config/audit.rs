//! `[audit]`: the audit log.

use std::path::{Path, PathBuf};

use super::reader::Reader;

/// `[audit]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audit {
    /// The file; `None`: there is no audit log.
    pub file: Option<PathBuf>,
    /// Arguments of calls are written too.
    pub arguments: bool,
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// Full files that are kept.
    pub keep: u32,
}

pub(super) fn audit(reader: &mut Reader<'_, '_>, base_dir: &Path) -> Audit {
    let file = reader.text("file", None, "The audit log, from pool.toml's folder: a line of JSON for each call, each refusal and each act of the operator. Without it there is none. `stdiopool audit` reads it.");
    let arguments = reader.boolean("arguments", false, "Arguments of calls are written too, the tenant's secrets masked. Otherwise only a digest, which tells equal ones and nothing else.");
    let max_size = reader.size(
        "max_size",
        Some(64 << 20),
        "The size at which the file is renamed to `.1`, and a new one begun.",
    );
    let keep = reader.number(
        "keep",
        Some(8),
        0..=1000,
        "Full files that are kept beside it.",
    );
    Audit {
        file: file.map(|file| base_dir.join(file)),
        arguments,
        max_size: max_size.unwrap_or(64 << 20),
        keep: keep.and_then(|n| u32::try_from(n).ok()).unwrap_or(8),
    }
}
