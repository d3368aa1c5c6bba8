//! The era that a program speaks, as far as its processes have shown.
//!
//! A process is spoken to in one way for its whole life, and what it is told first decides. So the
//! era has to be known before a process is started for someone. Whether a server speaks the era
//! that its client speaks is tried, in the way that a client of both eras would
//! (2026-07-28, basic/transports/stdio, "Backward Compatibility").
//!
//! ```text
//!  client       tried first         refused: tried next
//!  initialize   initialize          server/discover
//!  stateless    server/discover     initialize
//! ```
//!
//! A process that refused is never spoken to again: some take the first attempt for the whole truth.

use super::era::Era;

/// The eras that a program speaks, as far as known; `None`: not tried yet.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Dialect {
    initialize: Option<bool>,
    stateless: Option<bool>,
    /// `serverInfo`, as raw JSON: another version may speak otherwise.
    program: Option<Box<str>>,
    /// How often in a row it refused what it is known to speak.
    doubts: u8,
    /// The program was silent, from which it was concluded that it does not speak the stateless revision.
    was_silent: bool,
    /// The program was silent, and does not speak the other era either: it may need longer than others.
    is_slow: bool,
    /// The era in which its processes died before they answered, and how many in a row.
    died: Option<(Era, u8)>,
}

/// The part of a program's dialect that is kept beyond this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DialectRecord<'a> {
    /// Whether the program takes `initialize`; `None`: not tried yet.
    pub initialize: Option<bool>,
    /// Whether the program takes `server/discover`; `None`: not tried yet.
    pub stateless: Option<bool>,
    /// The program's `serverInfo`, as raw JSON.
    pub program: Option<&'a str>,
}

/// After so many doubts nothing is known any more.
const MAX_DOUBTS: u8 = 3;

/// How a process did not take the first message of an era.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EraRefusal {
    /// The process said so, or ended by itself.
    Explicit,
    /// The process said nothing for as long as that may take.
    Silent,
    /// The process died of a fault of its own (SIGSEGV, SIGABRT): by chance, or of the message, if the next one does so too.
    Crashed,
    /// Somebody killed it, for whatever reason. Once, that says nothing of what it speaks; where it happens to the next one as
    /// well, `server/discover` may be what it is killed for, and the other era is worth a try.
    Killed,
}

impl Dialect {
    /// The dialect that an earlier run has found out.
    pub fn remembered(spoken: DialectRecord<'_>) -> Self {
        Self {
            initialize: spoken.initialize,
            stateless: spoken.stateless,
            program: spoken.program.map(Into::into),
            ..Self::default()
        }
    }

    /// What is worth remembering: only what one era's success confirms.
    pub fn confirmed(&self) -> Option<DialectRecord<'_>> {
        let is_certain = self.initialize == Some(true) || self.stateless == Some(true);
        is_certain.then_some(DialectRecord {
            initialize: self.initialize,
            stateless: self.stateless,
            program: self.program.as_deref(),
        })
    }

    /// How a process is spoken to for a client with or without a session, and whether that is certain.
    pub fn for_client(&self, is_stateless: bool) -> (Era, bool) {
        if is_stateless {
            match self.stateless {
                Some(false) => (Era::Legacy, true),
                known => (Era::Modern, known.is_some()),
            }
        } else {
            match self.initialize {
                Some(false) => (Era::Modern, true),
                known => (Era::Legacy, known.is_some()),
            }
        }
    }

    /// Whether clients of either kind are served as they were before a change.
    pub fn serves_as(&self, before: &Self) -> bool {
        [true, false].iter().all(|&is_stateless| {
            self.for_client(is_stateless).0 == before.for_client(is_stateless).0
        })
    }

    /// Whether the program is known to ask its clients in its answers: it speaks the stateless revision.
    pub fn asks_in_answers(&self) -> bool {
        self.stateless == Some(true)
    }

    /// Whether the program is known to ask callers without sessions during a call, in requests of its own: it does not speak their
    /// revision.
    pub fn asks_in_requests(&self) -> bool {
        self.for_client(true) == (Era::Legacy, true)
    }

    /// Whether processes of the program need longer than others before they answer.
    pub fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// Whether a process has died before it answered in that era, for the first time: the next process is asked in that era too.
    pub fn is_asked_again(&self, era: Era) -> bool {
        self.died == Some((era, 1))
    }

    /// A process took the first message of that era, and said who it is.
    pub fn speaks(&mut self, era: Era, info: Option<&str>) {
        if info.is_some() && self.program.as_deref() != info {
            if self.program.is_some() {
                *self = Self::default();
            }
            self.program = info.map(Into::into);
        }
        *self.of(era) = Some(true);
        self.doubts = 0;
        self.died = self.died.filter(|(of, _)| *of != era);
    }

    /// A process refused the first message of that era, or did not come to it. Says whether another try is worth
    /// it: in the same way after a first death ([`Dialect::is_asked_again`]), else in the other.
    pub fn refuses(&mut self, era: Era, how: EraRefusal) -> bool {
        let other = era.other();
        if *self.of(era) == Some(true) {
            if how == EraRefusal::Killed {
                return false;
            }
            // The program did for others: what is wrong is this process, or its config. Unless that
            // goes on: then it is another version.
            self.doubts += 1;
            if self.doubts >= MAX_DOUBTS {
                *self = Self::default();
            }
            return false;
        }
        let deaths = self.died.filter(|(of, _)| *of == era);
        let deaths = deaths.map_or(0, |(_, deaths)| deaths);
        let has_died = matches!(how, EraRefusal::Killed | EraRefusal::Crashed);
        self.died = has_died.then(|| (era, deaths.saturating_add(1)));
        if has_died && deaths == 0 {
            return true;
        }
        // Every server of the legacy era takes `initialize`: whoever kills its processes does so for another reason.
        if how == EraRefusal::Killed && era == Era::Legacy {
            return false;
        }
        if *self.of(other) == Some(false) {
            // The program speaks neither today, which says more of today than of the program; or one only,
            // and takes longer to say so.
            let is_slow = self.was_silent || self.is_slow;
            *self = Self {
                is_slow,
                ..Self::default()
            };
            return false;
        }
        *self.of(era) = Some(false);
        self.was_silent = how == EraRefusal::Silent && era == Era::Modern;
        true
    }

    fn of(&mut self, era: Era) -> &mut Option<bool> {
        match era {
            Era::Legacy => &mut self.initialize,
            Era::Modern => &mut self.stateless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: Option<&str> = Some(r#"{"name":"s","version":"1"}"#);

    #[test]
    fn each_client_is_served_in_its_own_era_until_that_is_refused() {
        let mut dialect = Dialect::default();
        assert_eq!(dialect.for_client(false), (Era::Legacy, false));
        assert_eq!(dialect.for_client(true), (Era::Modern, false));
        assert!(dialect.refuses(Era::Modern, EraRefusal::Explicit));
        assert_eq!(dialect.for_client(true), (Era::Legacy, true));
        dialect.speaks(Era::Legacy, INFO);
        assert_eq!(dialect.for_client(false), (Era::Legacy, true));
        assert!(dialect.asks_in_requests() && !dialect.asks_in_answers());
    }

    #[test]
    fn another_version_is_tried_anew() {
        let mut dialect = Dialect::default();
        assert!(dialect.refuses(Era::Modern, EraRefusal::Explicit));
        dialect.speaks(Era::Legacy, INFO);
        dialect.speaks(Era::Legacy, Some(r#"{"name":"s","version":"2"}"#));
        assert_eq!(dialect.for_client(true), (Era::Modern, false));
    }

    #[test]
    fn one_failure_does_not_outweigh_what_was_seen() {
        let mut dialect = Dialect::default();
        dialect.speaks(Era::Legacy, INFO);
        assert!(!dialect.refuses(Era::Legacy, EraRefusal::Explicit));
        assert_eq!(dialect.for_client(false), (Era::Legacy, true));
        assert!(!dialect.refuses(Era::Legacy, EraRefusal::Explicit));
        assert!(!dialect.refuses(Era::Legacy, EraRefusal::Explicit));
        assert_eq!(dialect.for_client(false), (Era::Legacy, false));
    }

    #[test]
    fn who_refuses_everything_is_not_known() {
        let mut dialect = Dialect::default();
        assert!(dialect.refuses(Era::Legacy, EraRefusal::Explicit));
        assert_eq!(dialect.for_client(false), (Era::Modern, true));
        assert!(!dialect.refuses(Era::Modern, EraRefusal::Explicit));
        assert_eq!(dialect.for_client(false), (Era::Legacy, false));
        assert_eq!(dialect.for_client(true), (Era::Modern, false));
    }

    #[test]
    fn one_that_died_is_asked_again_and_two_have_refused() {
        for how in [EraRefusal::Killed, EraRefusal::Crashed] {
            let mut dialect = Dialect::default();
            assert!(dialect.refuses(Era::Modern, how));
            assert!(dialect.is_asked_again(Era::Modern));
            assert_eq!(dialect.for_client(true), (Era::Modern, false));
            assert!(dialect.refuses(Era::Modern, how), "{how:?}");
            assert!(!dialect.is_asked_again(Era::Modern));
            assert_eq!(dialect.for_client(true), (Era::Legacy, true));
        }
        // `initialize` is nothing that a process is killed for.
        let mut dialect = Dialect::default();
        assert!(dialect.refuses(Era::Legacy, EraRefusal::Killed));
        assert!(!dialect.refuses(Era::Legacy, EraRefusal::Killed));
        assert_eq!(dialect.for_client(false), (Era::Legacy, false));
        let mut dialect = Dialect::default();
        assert!(dialect.refuses(Era::Modern, EraRefusal::Crashed));
        dialect.speaks(Era::Modern, INFO);
        assert!(!dialect.is_asked_again(Era::Modern));
        for _ in 0..MAX_DOUBTS {
            assert!(!dialect.refuses(Era::Modern, EraRefusal::Killed));
        }
        assert_eq!(dialect.for_client(true), (Era::Modern, true));
    }

    #[test]
    fn one_that_was_silent_and_refuses_the_other_era_gets_more_time() {
        let mut dialect = Dialect::default();
        assert!(dialect.refuses(Era::Modern, EraRefusal::Silent));
        assert!(!dialect.is_slow(), "perhaps it speaks the other");
        assert!(!dialect.refuses(Era::Legacy, EraRefusal::Explicit));
        assert!(dialect.is_slow());
        assert_eq!(dialect.for_client(true), (Era::Modern, false));
        dialect.speaks(Era::Modern, INFO);
        assert_eq!(dialect.for_client(true), (Era::Modern, true));
        assert!(dialect.is_slow());
    }
}
