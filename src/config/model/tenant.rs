//! `[tenants.NAME]`: who may call, with which credentials, limits and values.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::rates::Rates;
use super::secret::SecretSource;
use crate::egress::Network;
use crate::ids::ServerName;
use crate::usage::Quotas;

/// `[tenants.NAME]`
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The tenant's bearer tokens.
    pub tokens: Vec<Token>,
    /// How much the tenant may ask; `None` for `[limits] tenant`.
    pub rates: Option<Rates>,
    /// What the tenant may use in a month.
    pub quotas: Quotas,
    /// Bytes that it may make stdiopool hold; `None` for `limits.memory_held`.
    pub memory_held: Option<u64>,
    /// Bytes of bodies a second that it may send; `None` for `limits.body_rate`.
    pub body_rate: Option<NonZeroU64>,
    /// The tenant's share of the pool under contention.
    pub weight: u32,
    /// Workers it may have; `None` for `pool.max_workers_per_tenant`.
    pub max_workers: Option<usize>,
    /// What servers reach for the tenant, where that is less than for others.
    pub networks: BTreeMap<ServerName, Network>,
    /// The tenant's values for servers' schemas.
    pub config: BTreeMap<ServerName, Map<String, Value>>,
    /// Where the tenant's secrets are.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// A bearer token.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Token {
    /// SHA-256 of it.
    pub hash: [u8; 32],
    /// The token's name in logs.
    pub name: Option<Arc<str>>,
    /// The user it stands for.
    pub subject: Option<String>,
    /// Scopes that a caller with the token has.
    pub scopes: Arc<BTreeSet<String>>,
    /// When the token stops being valid; `None`: never.
    pub expires: Option<SystemTime>,
}
