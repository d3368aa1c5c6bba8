//! What clients and servers say of themselves, and of their roots: what is taken in is read again as it was.

use stdiopool::bridge::{ClientInfo, ClientRoots, Level, MAX_INTRODUCTION, MAX_ROOTS, ServerInfo};
use stdiopool::protocol::{Envelope, Revision};
use stdiopool::session::EventId;

pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Some(id) = EventId::parse(text) {
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
    }
    if let Some(revision) = Revision::parse(text) {
        assert_eq!(revision.to_string(), text);
    }
    let _level = Level::parse(text);
    if let Ok(roots) = ClientRoots::read(text) {
        assert!(text.len() <= MAX_ROOTS);
        let again = ClientRoots::read(text).map(|again| again.digest());
        assert_eq!(again.ok(), Some(roots.digest()));
    }
    if let Ok(server) = ServerInfo::parse(text) {
        assert_eq!(server.text(), text, "the worker's own result goes on");
    }
    if let Ok(envelope) = Envelope::parse(input)
        && let Some(params) = envelope.params
        && let Ok(client) = ClientInfo::parse(Some(params))
    {
        assert!(params.get().len() <= MAX_INTRODUCTION);
        assert!(client.weight() > 0 || client.protocol_version.is_empty());
    }
}
