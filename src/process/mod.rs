//! Processes of this host, below everything that starts some: who descends from whom, how to end them without
//! hitting a stranger, and what a helper process of stdiopool's own sets for itself.
//!
//! Not done here: starting workers ([`crate::worker`]) and commands ([`crate::launch`]).

mod descendants;
mod handover;
mod own;
mod pidfd;
mod table;

pub(crate) use descendants::end_descendants;
pub(crate) use handover::{hand_over, receive_packet, take_over};
pub(crate) use own::{close_all_but, close_from_3, keep_private, take_short_turns};
pub(crate) use pidfd::open_pidfd;
pub(crate) use table::{Process, ProcessTable, RunState, kill};
