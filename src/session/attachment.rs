//! A session as the connections to its workers see it.

use super::record::Session;
use crate::bridge::aggregate::Alias;
use crate::bridge::{ClientInfo, Level, SessionNo};
use crate::ids::WorkerId;
use crate::upstream::Attachment;

impl Attachment for Session {
    fn no(&self) -> SessionNo {
        self.no
    }

    fn is_stateless(&self) -> bool {
        self.is_stateless()
    }

    fn client(&self) -> &ClientInfo {
        &self.client
    }

    fn alias(&self) -> Option<&Alias> {
        self.alias()
    }

    fn settings(&self) -> (Option<Level>, Vec<String>) {
        self.settings()
    }

    fn has_ended(&self) -> bool {
        self.has_ended()
    }

    fn attach(&self, worker: WorkerId) -> bool {
        self.attach(worker)
    }

    fn detach(&self, worker: WorkerId) {
        self.detach(worker);
    }
}
