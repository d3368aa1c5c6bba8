//! Memory that is held for tenants: each byte is charged to a tenant and to the whole.
//!
//! ```text
//!  Ledger (limit of all, what is held where)
//!    └─ Account (of one tenant, with its limit and its flow of work; cheap to clone)
//!         └─ Charge (some bytes of one kind; given back when it is dropped)
//! ```
//!
//! Whoever keeps what a client or a worker sent, beyond the moment, keeps a [`Charge`] beside it. A charge is
//! refused with [`Full`] (`try_add` in `account`) when the tenant's limit or the limit of all would be passed; what happens then is
//! decided where the bytes are: the request is refused, the oldest of that tenant dropped, or the slow
//! connection closed.
//!
//! A long message carries its charge in its bytes ([`Account::hold`]), so that it is counted once however many
//! queues and connections share it, until the last of them has let go of it.
//!
//! Invariants:
//! - what is held is the sum of the charges that live, of each tenant, of each kind, and of all;
//! - no tenant holds more than its limit, and all no more than theirs, except by [`Account::charge_anyway`]
//!   and after a limit was lowered: what is there stays;
//! - before a tenant is refused what cannot be dropped, what is kept for clients of it that are gone goes ([`Reclaim`]);
//! - an account that holds nothing and that nobody has takes no place in the ledger after its next look.
//!
//! This module deliberately knows no HTTP, no sessions and no reasons: bytes are counted here.

mod account;
mod carried;
mod kind;
mod ledger;
mod table;

pub use account::{Account, AccountKey, Charge, Full, Reclaim};
pub use carried::weight;
pub use kind::Kind;
pub use ledger::{HeldLimits, Ledger};
pub use table::{Bounds, LruEntries, TableFull, TenantTable, charged};
