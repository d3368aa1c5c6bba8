//! What is kept on disk: one state folder, private to the user that stdiopool runs as.
//!
//! ```text
//! .stdiopool/            0700 (0711 where workers have users of their own and no mounts)
//!   lock                 held while stdiopool runs, with its pid
//!   state.db             sessions, tenants, tokens, sealed secrets, stored configs
//!                        (sealed where they have secrets), which
//!                        era programs speak, as which user each tenant's servers run,
//!                        what was used (SQLite, with its -wal and -shm)
//!   secrets-folder       where workers have files with secrets, in memory
//!   data/TENANT/SERVER/  `${dir.data}`: kept
//!   tmp/TENANT/SERVER/   `${dir.tmp}`, TMPDIR: emptied at every start
//!   profile/             what `stdiopool profile` runs with, as long as it runs
//! ```
//!
//! Invariant: one stdiopool per folder. The store deliberately creates no tenant's folder before a worker
//! needs it.

mod accounts;
mod backup;
mod database;
mod eras;
mod handles;
mod id_hash;
mod installation;
mod opened;
mod profile_slot;
mod running;
mod schema;
mod sessions;
mod state_dir;
mod state_error;
mod state_lock;
mod tenant_rows;
mod times;
mod usage;
#[cfg(test)]
mod usage_tests;
mod users;
mod vault;

pub use accounts::{AccountRows, AccountStore, Resealed, SecretRow, TenantRow, TokenRow, now};
pub use backup::{backup, restore, tenant_names};
pub use database::DatabaseError;
pub use eras::{EraRow, EraStore};
pub use handles::{HandleRow, HandleStore};
pub use id_hash::IdHash;
pub use opened::OpenedState;
pub use profile_slot::{ProfileSlot, ProfileSlotError};
pub use running::{Door, address_of_running, address_of_serving};
pub use sessions::{SessionRow, SessionSettings, SessionStore};
pub use state_dir::{StateDir, data_dir};
pub use state_error::StateDirError;
pub use tenant_rows::tenant_rows;
pub use usage::{Span, Tidied, UsageFilter, UsageStore, UsedInSpan};
pub use users::{UserError, Users, users_of_installs};
pub use vault::{Vault, VaultError};
