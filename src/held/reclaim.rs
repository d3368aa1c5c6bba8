//! What is kept for a tenant and may go before the tenant is refused anything.

use super::Account;

/// Whoever keeps what may go.
pub trait Reclaim: Send + Sync {
    /// Lets go of the oldest of what is kept for that tenant and holds bytes; false if there is none.
    ///
    /// It is called wherever bytes are charged, whatever locks are held there: it takes none but its own and those
    /// under which nothing but [expendable](super::Kind::is_expendable) bytes is charged.
    fn reclaim(&self, account: &Account) -> bool;
}
