//! What each tenant, user and server has used, hour by hour, and how much of it a tenant may use in a month.
//!
//! ```text
//!  requests ─┐                                   ┌─ take ──▶ rows of the state folder (store::usage)
//!  starts   ─┼─ charge ──▶ Ledger: this hour ────┤
//!  samples  ─┘             and this month        └─ pending ─▶ whoever reads
//!                              └─ verdict: allowed, or exhausted until the next month
//! ```
//!
//! Invariants:
//! - what was charged is in exactly one of three places: open (of this hour), closed (of earlier hours), or taken;
//!   what could not be written is put back;
//! - the sum over all rows is the sum of all that was charged: bounds put rows together, and drop none;
//! - hours, days and months are those of UTC.
//!
//! [`Ledger`] is pure: time is handed in. [`Usage`] puts it under a lock and looks at the clock. While somebody looks at rates, it
//! also tallies what is charged ([`Tally`]).
//!
//! Deliberately not here: what reads processes, the database, and prices.

mod amounts;
mod hour;
mod lately;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod meter;
mod quotas;
mod row;

pub use amounts::{Amounts, mib_hours};
pub use hour::{Hour, Month};
pub use lately::{RateWindow, Tally, Used};
pub use ledger::{Ledger, LedgerBounds, MonthSum, Who};
pub use meter::{Meter, Usage};
pub use quotas::{Quota, Quotas, Verdict};
pub use row::{NOBODY, OTHERS, Row};
