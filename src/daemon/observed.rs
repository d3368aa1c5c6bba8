//! What servers with `sandbox = "observe"` did that "strict" would have refused, as the operator is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::admin::{MAX_OBSERVED, ObservedServer};
use crate::config::{Isolation, Server};
use crate::ids::ServerName;
use crate::profile::{HostsFile, Proposal, Reason, RecordBook};

/// What was observed of a server; `None` unless it is observed.
pub(super) fn observed(
    records: &RecordBook,
    name: &ServerName,
    server: &Server,
) -> Option<ObservedServer> {
    if server.sandbox != Isolation::Observe {
        return None;
    }
    let recorded = records.existing(name).map(|it| it.recorded());
    // Nothing of hosts is recorded.
    let proposal = Proposal::of(
        &recorded.unwrap_or_default(),
        &HostsFile::default(),
        &BTreeMap::new(),
    );
    let first = |paths: &[Reason<PathBuf>]| {
        let paths = paths.iter().take(MAX_OBSERVED);
        let shown = paths.map(|it| it.value.to_string_lossy().into_owned());
        shown.collect()
    };
    Some(ObservedServer {
        readable: first(&proposal.readable),
        readable_total: proposal.readable.len(),
        writable: first(&proposal.writable),
        writable_total: proposal.writable.len(),
        notes: proposal.notes,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::profile::{Seen, Use};

    #[test]
    fn only_observed_servers_are_told_of_and_paths_are_bounded() {
        let text =
            "[servers.a]\ncommand = \"a\"\nsandbox = \"observe\"\n[servers.b]\ncommand = \"b\"\n";
        let config = config::parse(text, "pool.toml", Path::new("/")).expect("valid");
        let records = RecordBook::default();
        let (a, b) = (ServerName::new("a"), ServerName::new("b"));
        let told = |name: &ServerName| observed(&records, name, &config.servers[name]);
        assert_eq!(told(&b), None);
        assert!(told(&a).expect("observed").is_empty());
        for n in 0..=MAX_OBSERVED {
            records.of(&a).note(Seen::File {
                path: format!("/etc/f{n:03}").into(),
                usage: Use::Read,
                is_folder: false,
            });
        }
        records.of(&a).note(Seen::Refused("mount"));
        let told = told(&a).expect("observed");
        assert_eq!(told.readable.len(), MAX_OBSERVED);
        assert_eq!(told.readable_total, MAX_OBSERVED + 1);
        assert_eq!(told.readable[0], "/etc/f000");
        assert!(told.writable.is_empty() && told.writable_total == 0);
        assert!(told.notes[0].contains("mount (1x)"), "{told:?}");
    }
}
