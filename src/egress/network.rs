//! What a server reaches by the network.

use std::sync::Arc;

use super::rule::AllowList;

/// `network` of a server, or of a tenant's use of it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Network {
    /// What the host reaches.
    #[default]
    On,
    /// The worker itself, by a loopback of its own.
    Off,
    /// The hosts of a list, and itself.
    Allow(Arc<AllowList>),
}

impl Network {
    /// Whether the network is the host's.
    pub fn is_host(&self) -> bool {
        matches!(self, Self::On)
    }

    /// The hosts that are reached, where they are listed.
    pub fn allowed(&self) -> Option<&Arc<AllowList>> {
        match self {
            Self::Allow(list) => Some(list),
            Self::On | Self::Off => None,
        }
    }

    /// The network as pool.toml writes it.
    pub fn written(&self) -> String {
        match self {
            Self::On => "\"on\"".to_owned(),
            Self::Off => "\"off\"".to_owned(),
            Self::Allow(list) => format!("{{ allow = {:?} }}", list.texts()),
        }
    }
}
