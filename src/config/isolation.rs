//! Reads how a server's processes are kept apart: `sandbox`, `readable` and `writable`.

use std::path::{Path, PathBuf};

use super::model::Isolation;
use super::reader::Reader;

/// `sandbox`.
pub(super) fn sandbox(reader: &mut Reader<'_, '_>) -> Isolation {
    let words = [
        ("standard", Isolation::Standard),
        ("observe", Isolation::Observe),
        ("strict", Isolation::Strict),
        ("none", Isolation::None),
    ];
    let doc = "How its processes are kept apart from other tenants' and from what stdiopool has (docs/guarantees.md). \"standard\": a session and process group of its own, a clean environment, closed descriptors, no new privileges; as root, a Unix user for each tenant (`sandbox.uids`), so that it writes to its own folders and to what any user may; the state folder hidden but for its own folders, and other tenants' processes; a Landlock domain. \"strict\": as well in namespaces of its own, of processes, System V objects, mounts and hostname, and of users where stdiopool is not root; it sees programs and libraries of the system, its package, what `command`, `args` and `cwd` name, `readable` and `writable`, and its own folders, and writes to these alone; a filter of system calls. Where the host cannot give one of these, such a server is refused (`stdiopool doctor` says what is missing). \"observe\": as \"standard\", and the log, `stdiopool events` and `stdiopool_observed_total` say what \"strict\" with the same keys would have refused; calls on files take longer (docs/sandbox.md). \"none\": the user that stdiopool runs as, which reads all that this one can, and may gain privileges, as sudo does.";
    let word = reader.word("sandbox", "standard", &words, doc);
    word.unwrap_or(Isolation::Standard)
}

/// `readable` and `writable`.
pub(super) fn strict_paths(
    reader: &mut Reader<'_, '_>,
    sandbox: Isolation,
    base_dir: &Path,
) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let docs = [
        (
            "readable",
            "With `sandbox = \"strict\"`: files and folders that it reads beside what every program does, such as the folder of its code, models, or repositories. A relative path starts at this file's folder.",
        ),
        (
            "writable",
            "With `sandbox = \"strict\"`: folders that it also writes to, as far as their permissions let the user that it runs as.",
        ),
    ];
    let [readable, writable] = docs.map(|(key, doc)| {
        let texts = reader.texts(key, &[], doc);
        let name = reader.name(key);
        let has_effect = matches!(sandbox, Isolation::Strict | Isolation::Observe);
        if !texts.is_empty() && !has_effect {
            let why = format!("`{name}` has no effect without `sandbox = \"strict\"`: a server reads and writes what its user may");
            reader.warn(key, why);
        }
        let paths: Vec<_> = texts.iter().map(|text| absolute(&base_dir.join(text))).collect();
        let made = ["/proc", "/dev", "/sys"];
        let is_wrong = |path: &&PathBuf| {
            path.parent().is_none() || made.iter().any(|made| path.starts_with(made))
        };
        if let Some(path) = paths.iter().find(is_wrong) {
            let why = format!("`{name}` has {}: a strict server has a root, /proc and /dev of its own, in which folders of the host are seen; name these", path.display());
            reader.wrong(key, why);
        }
        paths
    });
    (readable, writable)
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
