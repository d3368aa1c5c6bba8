//! What the kernel lets this process do (capabilities(7)).

/// The effective capabilities of this process, a bit each.
pub(super) fn capabilities() -> u64 {
    let status = procfs::process::Process::myself().and_then(|me| me.status());
    status.map_or(0, |status| status.capeff)
}
