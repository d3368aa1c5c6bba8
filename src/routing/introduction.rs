//! How a worker for a request is spoken to in an era.

use super::request::RouteRequest;
use crate::bridge::{Era, Handshake};
use crate::config::{Interactive, Server, Share};
use crate::launch::LaunchSpec;

/// How a worker for a session is spoken to in an era.
pub(super) struct Introduction {
    pub(super) handshake: Handshake,
    /// The worker serves one caller's requests at a time.
    pub(super) is_exclusive: bool,
    /// The worker's clients have roots, and it may ask for them.
    pub(super) has_own_roots: bool,
    /// Bytes that tell the worker apart from workers that are told something else, roots aside.
    pub(super) class: Vec<u8>,
}

impl Introduction {
    pub(super) fn of(
        request: &RouteRequest<'_>,
        server: &Server,
        spec: &LaunchSpec,
        era: Era,
    ) -> Self {
        let is_shared = server.share == Share::Tenant;
        let handshake = Handshake::for_client(era, request.client, is_shared);
        let handshake = match server.interactive {
            Interactive::Never => handshake.without_questions(),
            Interactive::Exclusive | Interactive::Always => handshake,
        };
        let handshake = handshake.with_roots(&spec.roots);
        let is_exclusive = handshake.is_exclusive(request.client, request.is_stateless, is_shared);
        let class = handshake.class_of(is_exclusive);
        let has_own_roots = request.known_roots.is_some()
            && handshake.may_ask_for_roots()
            && server.interactive != Interactive::Never
            && spec.roots.is_empty();
        Self {
            handshake,
            is_exclusive,
            has_own_roots,
            class,
        }
    }

    /// The class of its pool key: clients with roots share no worker with callers of whom none are known.
    pub(super) fn whole_class(&self) -> Vec<u8> {
        let mut class = self.class.clone();
        if self.has_own_roots {
            class.extend_from_slice(b"roots");
        }
        class
    }
}
