//! The dialects of programs: remembered as long as the server's command line does not change and the program
//! says that its version does not. [`Dialect`] decides what follows from what a process did.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::bridge::{Dialect, DialectRecord, Era, EraRefusal};
use crate::ids::ProgramId;
use crate::store::{EraRow, EraStore};

/// The dialects of all programs.
#[derive(Debug, Default)]
pub(crate) struct DialectCache {
    known: Mutex<FxHashMap<ProgramId, Dialect>>,
    /// Grows whenever a client may have to be served in another way than before.
    edition: AtomicU64,
    store: Option<EraStore>,
}

impl DialectCache {
    /// With what an earlier run has learnt.
    pub(crate) fn new(store: Option<EraStore>, rows: Vec<EraRow>) -> Self {
        let known = rows.into_iter().map(|row| {
            let dialect = Dialect::remembered(DialectRecord {
                initialize: row.initialize,
                stateless: row.stateless,
                program: row.program.as_deref(),
            });
            (row.id, dialect)
        });
        Self {
            known: Mutex::new(known.collect()),
            edition: AtomicU64::new(0),
            store,
        }
    }

    pub(crate) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// How a process of that program is spoken to for such a client, and whether that is certain.
    pub(crate) fn for_client(&self, program: ProgramId, is_stateless: bool) -> (Era, bool) {
        self.of(program, |dialect| dialect.for_client(is_stateless))
    }

    /// Whether the program is known to ask its clients in its answers ([`Dialect::asks_in_answers`]).
    pub(crate) fn asks_in_answers(&self, program: ProgramId) -> bool {
        self.of(program, Dialect::asks_in_answers)
    }

    /// Whether the program is known to ask callers without sessions during a call ([`Dialect::asks_in_requests`]).
    pub(crate) fn asks_in_requests(&self, program: ProgramId) -> bool {
        self.of(program, Dialect::asks_in_requests)
    }

    /// Whether processes of the program need longer than others before they answer.
    pub(crate) fn is_slow(&self, program: ProgramId) -> bool {
        self.of(program, Dialect::is_slow)
    }

    /// Whether the next process of that program is asked in that era, as one that has died was ([`Dialect::is_asked_again`]).
    pub(crate) fn is_asked_again(&self, program: ProgramId, era: Era) -> bool {
        self.of(program, |dialect| dialect.is_asked_again(era))
    }

    /// A process of that program took the first message of that era, and said who it is.
    pub(crate) fn speaks(&self, program: ProgramId, era: Era, info: Option<&str>) {
        self.change(program, |dialect| dialect.speaks(era, info));
    }

    /// A process of that program refused the first message of that era, or did not come to it. Says whether another try is worth
    /// it ([`Dialect::refuses`]).
    pub(crate) fn refuses(&self, program: ProgramId, era: Era, how: EraRefusal) -> bool {
        self.change(program, |dialect| dialect.refuses(era, how))
    }

    fn of<T>(&self, program: ProgramId, ask: impl Fn(&Dialect) -> T) -> T {
        let known = self.known.lock().get(&program).map(&ask);
        known.unwrap_or_else(|| ask(&Dialect::default()))
    }

    fn change<T>(&self, program: ProgramId, change: impl FnOnce(&mut Dialect) -> T) -> T {
        let (told, row) = {
            let mut table = self.known.lock();
            let dialect = table.entry(program).or_default();
            let before = dialect.clone();
            let told = change(dialect);
            if !dialect.serves_as(&before) {
                self.edition.fetch_add(1, Ordering::Release);
            }
            let spoken = dialect.confirmed().filter(|_| *dialect != before);
            let row = spoken.map(|spoken| EraRow {
                id: program,
                initialize: spoken.initialize,
                stateless: spoken.stateless,
                program: spoken.program.map(ToOwned::to_owned),
            });
            (told, row)
        };
        if let (Some(store), Some(row)) = (&self.store, row) {
            store.put(row);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edition_grows_when_somebody_is_served_otherwise() {
        let (program, dialects) = (ProgramId([7; 16]), DialectCache::default());
        let (first, _) = dialects.for_client(program, true);
        assert!(dialects.refuses(program, first, EraRefusal::Explicit));
        assert_eq!(dialects.edition(), 1);
        let (other, is_certain) = dialects.for_client(program, true);
        assert!(other != first && is_certain && dialects.asks_in_requests(program));
        dialects.speaks(program, other, Some(r#"{"name":"s","version":"1"}"#));
        assert_eq!(dialects.edition(), 1, "nobody is served otherwise");
        assert!(!dialects.asks_in_answers(program));
    }
}
