//! Processes of this host, below everything that starts some: who descends from whom, how to end them without
//! hitting a stranger, and what a helper process of stdiopool's own sets for itself.
//!
//! Invariant: a process is signalled only while it is surely the one that is meant: by a pidfd, or before it is waited for.
//!
//! Not done here: starting workers ([`crate::worker`]) and commands ([`crate::launch`]).

mod background;
mod capabilities;
mod descendants;
mod descriptors;
mod handover;
mod own;
mod own_program;
mod pidfd;
mod privileges;
mod reaping;
mod scheduling;
mod shared_memory;
mod subordinate;
mod table;
mod users;

pub(crate) use background::set_background;
pub(crate) use descendants::end_descendants;
pub(crate) use descriptors::grow_descriptor_table;
pub(crate) use handover::{hand_over, receive_packet, take_over};
pub(crate) use own::{close_all_but, close_from_3, keep_private};
pub(crate) use own_program::ask_own_program;
pub(crate) use pidfd::open_pidfd;
pub(crate) use privileges::{
    give_up_all_privileges, give_up_privileges, inherit_privileges, keep_privileges_for_files,
};
pub(crate) use reaping::reap_one;
pub(crate) use scheduling::{take_precedence, take_precedence_of_session, take_short_slices};
pub(crate) use shared_memory::share_memory;
pub(crate) use subordinate::{take_subordinate_users, try_subordinate_users_if_asked};
pub(crate) use table::{Process, ProcessTable, RunState, kill};
pub(crate) use users::{NoUsers, can_have_users, may_look_into_others, may_mount};
