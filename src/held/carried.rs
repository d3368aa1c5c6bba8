//! Messages that carry their charge with them, through queues and into the connection that writes them.

use bytes::Bytes;

use super::{Account, Charge, Full, Kind};

/// Length in bytes from which a message carries its own charge. Shorter ones are charged where they wait: one
/// is not worth an allocation, and on its way it is bounded by the number of calls and connections.
const CARRIES: usize = 4096;

/// Bytes and what was charged for them.
struct Carrier {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Carrier {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Charge {
    /// Whether a message of that length carries its charge, rather than being weighed where it waits.
    pub fn carries(&self, message: &[u8]) -> bool {
        message.len() >= CARRIES
    }

    /// The bytes of a message that carries the charge from here on: it is given back when the last clone or
    /// slice of them is dropped, wherever that is. Costs an allocation.
    pub fn carried_by(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Carrier {
            bytes,
            _charge: self,
        })
    }
}

impl Account {
    /// The message, charged for as long as any clone of it lives if it is a long one. A short one is charged by
    /// whoever keeps it, with its [`weight`].
    ///
    /// # Errors
    /// [`Full`] when it is a long one and too much.
    pub fn hold(&self, kind: Kind, message: Bytes) -> Result<Bytes, Full> {
        if message.len() < CARRIES {
            return Ok(message);
        }
        let charge = self.charge(kind, message.len())?;
        Ok(charge.carried_by(message))
    }

    /// As [`Account::hold`], whatever the limits: for what is there already.
    pub fn hold_anyway(&self, kind: Kind, message: Bytes) -> Bytes {
        if message.len() < CARRIES {
            return message;
        }
        let charge = self.charge_anyway(kind, message.len());
        charge.carried_by(message)
    }
}

/// What a queue is charged for a message in it that was [held](Account::hold), in bytes: none for one that
/// carries its charge.
pub fn weight(message: &[u8]) -> usize {
    match message.len() {
        short if short < CARRIES => short,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::held::{HeldLimits, Ledger};
    use crate::ids::TenantId;

    fn account() -> Account {
        let limits = HeldLimits {
            of_tenant: 10_000,
            of_all: 10_000,
        };
        Ledger::new(limits).account(&TenantId::new("one"))
    }

    #[test]
    fn a_long_message_carries_its_charge_until_its_last_clone_is_gone() {
        let account = account();
        let message = account
            .hold(Kind::Answer, vec![b'x'; 5000].into())
            .expect("room");
        let slice = message.clone().slice(1..3);
        drop(message);
        assert_eq!((&slice[..], account.held()), (&b"xx"[..], 5000));
        let refused = account.hold(Kind::Answer, vec![b'x'; 5001].into());
        assert!(refused.is_err(), "it would be too much");
        drop(slice);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn a_short_message_is_weighed_where_it_waits() {
        let account = account();
        let short = account
            .hold(Kind::Answer, Bytes::from_static(b"short"))
            .expect("room");
        assert_eq!((weight(&short), account.held()), (5, 0));
        let long = account.hold_anyway(Kind::Answer, vec![0; 20_000].into());
        assert_eq!((weight(&long), account.held()), (0, 20_000));
    }
}
