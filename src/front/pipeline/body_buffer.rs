//! The bytes of a body that have come, charged to their tenant before there is room for them.

use bytes::{Bytes, BytesMut};

use crate::held::{Account, Charge, Full, Kind};

/// A body that is there.
#[derive(Debug)]
pub(in crate::front) struct Whole {
    /// The body's bytes; those of a long one carry what was charged for them.
    pub(in crate::front) bytes: Bytes,
    /// What was charged for a short one, as long as its request is worked on.
    pub(in crate::front) charge: Option<Charge>,
}

/// What there is of a body.
pub(super) struct BodyBuffer {
    charge: Charge,
    /// Most bodies come in one piece, which is then not copied.
    first: Bytes,
    rest: BytesMut,
}

impl BodyBuffer {
    /// Nothing yet.
    pub(super) fn new(account: &Account) -> Self {
        Self {
            charge: account.nothing(Kind::Body),
            first: Bytes::new(),
            rest: BytesMut::new(),
        }
    }

    /// Bytes that have come.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    /// Charges for bytes that are known to come.
    ///
    /// # Errors
    /// [`Full`]: the tenant may not hold as much.
    pub(super) fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        self.charge.grow(bytes)
    }

    /// The bytes that have come, in their order.
    pub(super) fn pieces(&self) -> [&[u8]; 2] {
        [&self.first, &self.rest]
    }

    /// Adds a piece of a body of which `expected` bytes are known to come.
    ///
    /// # Errors
    /// [`Full`]: the tenant may not hold as much.
    pub(super) fn add(&mut self, data: &Bytes, expected: usize) -> Result<(), Full> {
        let len = self.len() + data.len();
        let charged = usize::try_from(self.charge.bytes()).unwrap_or(usize::MAX);
        if self.first.is_empty() && self.rest.is_empty() {
            self.charge.grow(len.saturating_sub(charged))?;
            self.first = data.clone();
            return Ok(());
        }
        if self.rest.is_empty() {
            // All that is known to come goes into one place, and what came is moved there.
            let room = len.max(expected);
            self.charge.grow(room.saturating_sub(charged))?;
            self.rest.reserve(room);
            self.rest
                .extend_from_slice(&std::mem::take(&mut self.first));
        } else if len > self.rest.capacity() {
            // Doubled; what it grows to is what it takes.
            self.charge.grow((2 * len).saturating_sub(charged))?;
            self.rest.reserve(2 * len - self.rest.len());
        }
        self.rest.extend_from_slice(data);
        Ok(())
    }

    /// The body, when all of it is there.
    pub(super) fn whole(mut self) -> Whole {
        let bytes = if self.rest.is_empty() {
            self.first
        } else {
            self.rest.freeze()
        };
        if self.charge.carries(&bytes) {
            return Whole {
                bytes: self.charge.carried_by(bytes),
                charge: None,
            };
        }
        self.charge.resize_anyway(bytes.len());
        Whole {
            bytes,
            charge: Some(self.charge),
        }
    }
}
