//! Which era the servers speak.
//!
//! A process is spoken to in one way for its whole life, and what it is told first decides. So the
//! era has to be known before a process is started for someone. Whether a server speaks the era
//! that its client speaks is tried, in the way that a client of both eras would
//! (2026-07-28, basic/transports/stdio, "Backward Compatibility"), and remembered: as long as the
//! server's command line is the same and the program says that it is the same.
//!
//! ```text
//!  client       tried first         refused: tried next
//!  initialize   initialize          server/discover
//!  stateless    server/discover     initialize
//! ```
//!
//! A process that refused is never spoken to again: some take the first attempt for the whole truth.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::bridge::Era;
use crate::ids::ProgramId;
use crate::store::{EraRow, EraStore};

/// What is known of a program; `None`: not tried yet.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Known {
    initialize: Option<bool>,
    stateless: Option<bool>,
    /// `serverInfo`, as raw JSON: another version may speak otherwise.
    program: Option<Box<str>>,
    /// How often in a row it refused what it is known to speak.
    doubts: u8,
    /// That it does not speak the stateless revision is concluded from its silence.
    was_silent: bool,
    /// It was silent, and does not speak the other era either: it may need longer than others.
    is_slow: bool,
    /// The era in which its processes died before they answered, and how many in a row.
    died: Option<(Era, u8)>,
}

/// After so many doubts nothing is known any more.
const MAX_DOUBTS: u8 = 3;

/// How a process did not take the first message of an era.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// It said so, or ended by itself.
    Said,
    /// It said nothing for as long as that may take.
    Silent,
    /// It died of a fault of its own (SIGSEGV, SIGABRT): by chance, or of the message, if the next one does so too.
    Crashed,
    /// Somebody killed it, which says nothing of what it speaks.
    Killed,
}

impl Known {
    fn for_client(&self, is_stateless: bool) -> (Era, bool) {
        if is_stateless {
            match self.stateless {
                Some(false) => (Era::Initialize, true),
                known => (Era::Stateless, known.is_some()),
            }
        } else {
            match self.initialize {
                Some(false) => (Era::Stateless, true),
                known => (Era::Initialize, known.is_some()),
            }
        }
    }

    fn of(&mut self, era: Era) -> &mut Option<bool> {
        match era {
            Era::Initialize => &mut self.initialize,
            Era::Stateless => &mut self.stateless,
        }
    }
}

/// What is known of all programs.
#[derive(Debug, Default)]
pub(super) struct Eras {
    known: Mutex<FxHashMap<ProgramId, Known>>,
    /// Grows whenever a client may have to be served in another way than before.
    edition: AtomicU64,
    store: Option<EraStore>,
}

impl Eras {
    /// With what an earlier run has learnt.
    pub(super) fn new(store: Option<EraStore>, rows: Vec<EraRow>) -> Self {
        let known = rows.into_iter().map(|row| {
            let known = Known {
                initialize: row.initialize,
                stateless: row.stateless,
                program: row.program.map(String::into_boxed_str),
                ..Known::default()
            };
            (row.id, known)
        });
        Self {
            known: Mutex::new(known.collect()),
            edition: AtomicU64::new(0),
            store,
        }
    }

    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// How a process of that program is spoken to for such a client, and whether that is certain.
    pub(super) fn for_client(&self, program: ProgramId, is_stateless: bool) -> (Era, bool) {
        let known = self.known.lock();
        let of_program = known
            .get(&program)
            .map(|known| known.for_client(is_stateless));
        of_program.unwrap_or_else(|| Known::default().for_client(is_stateless))
    }

    /// Whether it is known to speak the stateless revision.
    pub(super) fn speaks_stateless(&self, program: ProgramId) -> bool {
        let known = self.known.lock();
        known
            .get(&program)
            .is_some_and(|known| known.stateless == Some(true))
    }

    /// A process of that program was greeted in that era, and said who it is.
    pub(super) fn speaks(&self, program: ProgramId, era: Era, info: Option<&str>) {
        self.change(program, |known| {
            if info.is_some() && known.program.as_deref() != info {
                if known.program.is_some() {
                    *known = Known::default();
                }
                known.program = info.map(Into::into);
            }
            *known.of(era) = Some(true);
            known.doubts = 0;
            known.died = known.died.filter(|(of, _)| *of != era);
        });
    }

    /// Whether its processes need longer than others before they answer.
    pub(super) fn is_slow(&self, program: ProgramId) -> bool {
        let known = self.known.lock();
        known.get(&program).is_some_and(|known| known.is_slow)
    }

    /// Whether a process of that program has died before it answered in that era, for the first time: the next is asked the
    /// same.
    pub(super) fn is_asked_again(&self, program: ProgramId, era: Era) -> bool {
        let known = self.known.lock();
        known
            .get(&program)
            .is_some_and(|it| it.died == Some((era, 1)))
    }

    /// A process of that program refused to be greeted in that era, or did not come to it. Says whether another try is worth
    /// it: in the same way after a first death ([`Eras::is_asked_again`]), else in the other.
    pub(super) fn refuses(&self, program: ProgramId, era: Era, how: Refusal) -> bool {
        self.change(program, |known| {
            let other = era.other();
            if *known.of(era) == Some(true) {
                if how == Refusal::Killed {
                    return false;
                }
                // It did for others: what is wrong is this process, or its config. Unless that
                // goes on: then it is another version.
                known.doubts += 1;
                if known.doubts >= MAX_DOUBTS {
                    *known = Known::default();
                }
                return false;
            }
            let deaths = known.died.filter(|(of, _)| *of == era);
            let deaths = deaths.map_or(0, |(_, deaths)| deaths);
            let has_died = matches!(how, Refusal::Killed | Refusal::Crashed);
            known.died = has_died.then(|| (era, deaths.saturating_add(1)));
            if has_died && (deaths == 0 || how == Refusal::Killed) {
                return deaths == 0;
            }
            if *known.of(other) == Some(false) {
                // It speaks neither today, which says more of today than of the program; or one only,
                // and takes longer to say so.
                let is_slow = known.was_silent || known.is_slow;
                *known = Known {
                    is_slow,
                    ..Known::default()
                };
                return false;
            }
            *known.of(era) = Some(false);
            known.was_silent = how == Refusal::Silent && era == Era::Stateless;
            true
        })
    }

    fn change<T>(&self, program: ProgramId, change: impl FnOnce(&mut Known) -> T) -> T {
        let (told, row) = {
            let mut table = self.known.lock();
            let known = table.entry(program).or_default();
            let before = known.clone();
            let told = change(known);
            let ways = |known: &Known| [true, false].map(|client| known.for_client(client).0);
            if ways(&before) != ways(known) {
                self.edition.fetch_add(1, Ordering::Release);
            }
            // Only what one era's success confirms is worth remembering.
            let is_certain = known.initialize == Some(true) || known.stateless == Some(true);
            let row = (*known != before && is_certain).then(|| EraRow {
                id: program,
                initialize: known.initialize,
                stateless: known.stateless,
                program: known.program.as_deref().map(ToOwned::to_owned),
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

    const PROGRAM: ProgramId = ProgramId([7; 16]);
    const INFO: Option<&str> = Some(r#"{"name":"s","version":"1"}"#);

    #[test]
    fn each_client_is_served_in_its_own_era_until_that_is_refused() {
        let eras = Eras::default();
        assert_eq!(eras.for_client(PROGRAM, false), (Era::Initialize, false));
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, false));
        assert!(eras.refuses(PROGRAM, Era::Stateless, Refusal::Said));
        assert_eq!(eras.edition(), 1);
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Initialize, true));
        eras.speaks(PROGRAM, Era::Initialize, INFO);
        assert_eq!(eras.for_client(PROGRAM, false), (Era::Initialize, true));
        assert_eq!(eras.edition(), 1, "nobody is served otherwise");
        assert!(!eras.speaks_stateless(PROGRAM));
    }

    #[test]
    fn another_version_is_tried_anew() {
        let eras = Eras::default();
        assert!(eras.refuses(PROGRAM, Era::Stateless, Refusal::Said));
        eras.speaks(PROGRAM, Era::Initialize, INFO);
        eras.speaks(
            PROGRAM,
            Era::Initialize,
            Some(r#"{"name":"s","version":"2"}"#),
        );
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, false));
    }

    #[test]
    fn one_failure_does_not_outweigh_what_was_seen() {
        let eras = Eras::default();
        eras.speaks(PROGRAM, Era::Initialize, INFO);
        assert!(!eras.refuses(PROGRAM, Era::Initialize, Refusal::Said));
        assert_eq!(eras.for_client(PROGRAM, false), (Era::Initialize, true));
        assert!(!eras.refuses(PROGRAM, Era::Initialize, Refusal::Said));
        assert!(!eras.refuses(PROGRAM, Era::Initialize, Refusal::Said));
        assert_eq!(eras.for_client(PROGRAM, false), (Era::Initialize, false));
    }

    #[test]
    fn who_refuses_everything_is_not_known() {
        let eras = Eras::default();
        assert!(eras.refuses(PROGRAM, Era::Initialize, Refusal::Said));
        assert_eq!(eras.for_client(PROGRAM, false), (Era::Stateless, true));
        assert!(!eras.refuses(PROGRAM, Era::Stateless, Refusal::Said));
        assert_eq!(eras.for_client(PROGRAM, false), (Era::Initialize, false));
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, false));
    }

    #[test]
    fn one_that_died_is_asked_again_and_two_that_crashed_have_refused() {
        for how in [Refusal::Killed, Refusal::Crashed] {
            let eras = Eras::default();
            assert!(eras.refuses(PROGRAM, Era::Stateless, how));
            assert!(eras.is_asked_again(PROGRAM, Era::Stateless));
            assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, false));
            let is_refusal = how == Refusal::Crashed;
            assert_eq!(eras.refuses(PROGRAM, Era::Stateless, how), is_refusal);
            assert!(!eras.is_asked_again(PROGRAM, Era::Stateless));
            assert_eq!(eras.for_client(PROGRAM, true).1, is_refusal, "{how:?}");
        }
        let eras = Eras::default();
        assert!(eras.refuses(PROGRAM, Era::Stateless, Refusal::Crashed));
        eras.speaks(PROGRAM, Era::Stateless, INFO);
        assert!(!eras.is_asked_again(PROGRAM, Era::Stateless));
        for _ in 0..MAX_DOUBTS {
            assert!(!eras.refuses(PROGRAM, Era::Stateless, Refusal::Killed));
        }
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, true));
    }

    #[test]
    fn one_that_was_silent_and_refuses_the_other_era_gets_more_time() {
        let eras = Eras::default();
        assert!(eras.refuses(PROGRAM, Era::Stateless, Refusal::Silent));
        assert!(!eras.is_slow(PROGRAM), "perhaps it speaks the other");
        assert!(!eras.refuses(PROGRAM, Era::Initialize, Refusal::Said));
        assert!(eras.is_slow(PROGRAM));
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, false));
        eras.speaks(PROGRAM, Era::Stateless, INFO);
        assert_eq!(eras.for_client(PROGRAM, true), (Era::Stateless, true));
        assert!(eras.is_slow(PROGRAM));
    }
}
