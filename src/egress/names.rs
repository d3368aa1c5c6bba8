//! Addresses that stand for names in a worker's own network.
//!
//! A program asks for the address of a name, gets one that stands for this name alone, and connects to it: so the name is known when
//! the connection comes.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::time::Instant;

/// Names of one worker that have addresses at once.
const MAX_NAMES: u16 = 1024;
/// How long an address stays its name's after it was last asked for or used; longer than a program is told that it may keep it.
const KEPT: Duration = Duration::from_secs(300);

/// An address that stands for a name: of IPv4 and of IPv6, by its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Synthetic(u16);

/// For measurements between networks (RFC 2544): of no host.
const V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
/// Unique local (RFC 4193).
const V6: Ipv6Net = Ipv6Net::new_assert(
    Ipv6Addr::new(0xfd73, 0x7464, 0x696f, 0x706f, 0, 0, 0, 0),
    64,
);

impl Synthetic {
    /// Where those of IPv6 are.
    pub(super) const V6_NETWORK: Ipv6Net = V6;

    /// The networks that addresses standing for names are of.
    pub fn networks() -> [IpNet; 2] {
        [V4.into(), V6.into()]
    }

    /// The one of IPv4.
    pub fn v4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(V4.addr().to_bits() + 1 + u32::from(self.0))
    }

    /// The one of IPv6.
    pub fn v6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(V6.addr().to_bits() + 1 + u128::from(self.0))
    }

    /// What an address stands for, if it may stand for a name at all.
    pub fn of(address: IpAddr) -> Option<Self> {
        let index = match address {
            IpAddr::V4(address) if V4.contains(&address) => {
                u128::from(address.to_bits() - V4.addr().to_bits())
            }
            IpAddr::V6(address) if V6.contains(&address) => address.to_bits() - V6.addr().to_bits(),
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        u16::try_from(index.checked_sub(1)?).ok().map(Self)
    }
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    used: Instant,
    connections: usize,
}

/// The names of one worker that have addresses.
#[derive(Debug, Default)]
pub struct NameTable {
    entries: Vec<Entry>,
    indices: HashMap<Arc<str>, u16>,
}

impl NameTable {
    /// The address of a name, which has it from now on if it had none. `None`: all are in use. Of those that are not, the one
    /// that was used longest ago is another name's then.
    pub fn assign(&mut self, now: Instant, name: &str) -> Option<Synthetic> {
        if let Some(index) = self.indices.get(name).copied() {
            self.entry(Synthetic(index))?.used = now;
            return Some(Synthetic(index));
        }
        let entry = Entry {
            name: name.into(),
            used: now,
            connections: 0,
        };
        let next = u16::try_from(self.entries.len()).unwrap_or(MAX_NAMES);
        let index = if next < MAX_NAMES {
            self.indices.insert(Arc::clone(&entry.name), next);
            self.entries.push(entry);
            next
        } else {
            let index = self.oldest_unused(now)?;
            let name = Arc::clone(&entry.name);
            let old = std::mem::replace(self.entries.get_mut(usize::from(index))?, entry);
            self.indices.remove(&old.name);
            self.indices.insert(name, index);
            index
        };
        self.check_invariants();
        Some(Synthetic(index))
    }

    /// The name that an address stands for, which a connection uses until [`Self::closed`].
    pub fn opened(&mut self, now: Instant, address: Synthetic) -> Option<Arc<str>> {
        let entry = self.entry(address)?;
        entry.used = now;
        entry.connections += 1;
        Some(Arc::clone(&entry.name))
    }

    /// A connection to what an address stands for has ended.
    pub fn closed(&mut self, now: Instant, address: Synthetic) {
        if let Some(entry) = self.entry(address) {
            entry.used = now;
            entry.connections = entry.connections.saturating_sub(1);
        }
    }

    /// The name that an address stands for.
    pub fn name(&self, address: Synthetic) -> Option<&Arc<str>> {
        let entry = self.entries.get(usize::from(address.0))?;
        Some(&entry.name)
    }

    fn entry(&mut self, address: Synthetic) -> Option<&mut Entry> {
        self.entries.get_mut(usize::from(address.0))
    }

    fn oldest_unused(&self, now: Instant) -> Option<u16> {
        let all = self.entries.iter().zip(0..);
        let unused = all.filter(|(it, _)| {
            it.connections == 0 && now.saturating_duration_since(it.used) >= KEPT
        });
        let oldest = unused.min_by_key(|(it, _)| it.used);
        oldest.map(|(_, index)| index)
    }

    fn check_invariants(&self) {
        debug_assert!(self.entries.len() <= usize::from(MAX_NAMES));
        debug_assert_eq!(self.entries.len(), self.indices.len());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_address_leads_back_to_its_place_and_no_other_does() {
        for index in [0, 1, 1023, u16::MAX] {
            let it = Synthetic(index);
            assert_eq!(Synthetic::of(it.v4().into()), Some(it));
            assert_eq!(Synthetic::of(it.v6().into()), Some(it));
        }
        for other in [
            "198.18.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "fd73:7464:696f:706f::",
            "fd73:7464:696f:706f:1::1",
            "::1",
        ] {
            assert_eq!(
                Synthetic::of(other.parse().expect("an address")),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn a_full_table_takes_the_oldest_that_nobody_uses() {
        let mut table = NameTable::default();
        let start = Instant::now();
        let name = |n: u16| format!("n{n}");
        for n in 0..MAX_NAMES {
            let now = start + Duration::from_millis(n.into());
            assert_eq!(table.assign(now, &name(n)), Some(Synthetic(n)));
        }
        assert_eq!(table.assign(start, "more"), None, "all may be in use yet");
        let later = start + KEPT + Duration::from_secs(2);
        table.opened(later, Synthetic(0)).expect("it is there");
        assert_eq!(table.assign(later, "more"), Some(Synthetic(1)), "0 is used");
        assert_eq!(
            table.assign(later, "n1"),
            Some(Synthetic(2)),
            "it has another now"
        );
        table.closed(later, Synthetic(0));
        assert_eq!(table.name(Synthetic(0)).map(|it| &**it), Some("n0"));
    }

    proptest! {
        #[test]
        fn an_address_stands_for_one_name_while_it_may_be_used(
            steps in prop::collection::vec((0_u16..1400, 0_u64..2000, any::<bool>()), 1..3000)
        ) {
            let mut table = NameTable::default();
            let mut now = Instant::now();
            let mut given: HashMap<Synthetic2, (String, Instant)> = HashMap::new();
            for (n, pause, opens) in steps {
                now += Duration::from_millis(pause);
                let name = format!("n{n}");
                let Some(address) = table.assign(now, &name) else { continue };
                if let Some((before, at)) = given.get(&Synthetic2(address.0)) {
                    prop_assert!(*before == name || now.duration_since(*at) >= KEPT);
                }
                given.insert(Synthetic2(address.0), (name.clone(), now));
                if opens {
                    let opened = table.opened(now, address);
                    prop_assert_eq!(opened.as_deref(), Some(&*name));
                    table.closed(now, address);
                }
            }
        }
    }

    #[derive(PartialEq, Eq, Hash)]
    struct Synthetic2(u16);
}
