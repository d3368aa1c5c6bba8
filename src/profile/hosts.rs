//! The `network` that covers the hosts that were reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::record::Recorded;
use super::seen::Transport;
use crate::egress::{AllowList, MAX_PORTS, Network, Rule, is_internal};

/// Where clouds tell a machine about itself: most, AWS by IPv6, Azure, Alibaba, Oracle.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Most rules that no list may have, of which a note tells.
const MAX_TOLD_RULES: usize = 3;

/// Most names without connections, of which a note tells.
const MAX_TOLD_NAMES: usize = 8;

/// Names of addresses in the host's own table (hosts(5)).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HostsFile(BTreeMap<IpAddr, BTreeSet<String>>);

impl HostsFile {
    /// Most names that are read.
    const MAX_NAMES: usize = 4096;

    /// Reads the table's text; lines that are none are passed over.
    pub fn read(text: &str) -> Self {
        let mut names: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
        let lines = text.lines().filter_map(|line| line.split('#').next());
        let pairs = lines.flat_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let address = fields.next().and_then(|it| it.parse::<IpAddr>().ok());
            fields.filter_map(move |name| Some((address?, name.to_ascii_lowercase())))
        });
        for (address, name) in pairs.take(Self::MAX_NAMES) {
            names
                .entry(address.to_canonical())
                .or_default()
                .insert(name);
        }
        Self(names)
    }
}

/// `network`, and what each part of it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Hosts {
    pub(super) network: Network,
    /// Rules of the list with what each is for, in order.
    pub(super) rules: Vec<(String, String)>,
    pub(super) notes: Vec<String>,
}

/// An address that was reached by one protocol, and how often.
type Reached<'a> = (&'a (SocketAddr, Transport), &'a u64);

/// The `network` that covers what was reached. `looked_up` has names whose answers were not seen, as the host's resolver has them now.
pub(super) fn hosts(
    recorded: &Recorded,
    file: &HostsFile,
    looked_up: &BTreeMap<IpAddr, BTreeSet<String>>,
) -> Hosts {
    let mut rules = Rules::default();
    let mut notes = Vec::new();
    let is_own = |to: &SocketAddr| to.ip().is_loopback() && recorded.listens.contains(&to.port());
    let others = recorded.reached.iter().filter(|((to, _), _)| !is_own(to));
    let (tcp, udp): (Vec<_>, Vec<_>) = others.partition(|((_, by), _)| *by == Transport::Tcp);
    let sources = NameSources {
        asked: &recorded.names,
        looked_up,
        file,
    };
    for ((to, _), count) in &tcp {
        rules.add_connections(*to, **count, &sources);
    }
    let metadata = tcp.iter().map(|((to, _), _)| to.ip());
    if let Some(address) = metadata.filter(|it| METADATA.contains(it)).min() {
        notes.push(format!(
            "it connected to {address}, where clouds hand out credentials of the machine: leave that out, unless the server is to have them"
        ));
    }
    rules.add_loopback(&tcp);
    let ports: BTreeSet<u16> = tcp.iter().map(|((to, _), _)| to.port()).collect();
    let texts: Vec<String> = rules.0.keys().cloned().collect();
    let network = match network(&texts, ports.len(), &udp) {
        Ok(network) => network,
        Err(why) => {
            notes.push(format!("{why}: `network` stays \"on\""));
            Network::On
        }
    };
    notes.extend(never_reached(recorded, &rules));
    let rules = rules
        .0
        .into_iter()
        .map(|(rule, why)| (rule, why.join("; ")));
    Hosts {
        network,
        rules: rules.collect(),
        notes,
    }
}

/// Where names of an address come from, the first that has some.
struct NameSources<'a> {
    /// Names that the server asked for, by the addresses that it was told.
    asked: &'a BTreeMap<IpAddr, BTreeSet<String>>,
    /// Names that the server asked for, by the addresses that they have now.
    looked_up: &'a BTreeMap<IpAddr, BTreeSet<String>>,
    file: &'a HostsFile,
}

/// Rules of a list, each with what it is for.
#[derive(Default)]
struct Rules(BTreeMap<String, Vec<String>>);

impl Rules {
    fn add(&mut self, rule: String, why: String) {
        self.0.entry(rule).or_default().push(why);
    }

    /// Rules that let so many connections to an address through.
    fn add_connections(&mut self, to: SocketAddr, count: u64, sources: &NameSources<'_>) {
        let (address, port) = (to.ip(), to.port());
        let times = times(count);
        let is_localhost = is_localhost(address);
        let empty = BTreeSet::new();
        let mut names: BTreeSet<&String> = sources
            .asked
            .get(&address)
            .unwrap_or(&empty)
            .iter()
            .collect();
        let how = match names.is_empty() {
            false => "",
            true => {
                names.extend(sources.looked_up.get(&address).unwrap_or(&empty));
                ", by a name that it asked for and that leads there now"
            }
        };
        if names.is_empty() && !is_localhost {
            names.extend(sources.file.0.get(&address).unwrap_or(&empty));
        }
        names.retain(|name| *name != "localhost" && Rule::parse(&format!("{name}:{port}")).is_ok());
        for name in &names {
            self.add(
                format!("{name}:{port}"),
                format!("connected to {times} ({address}){how}"),
            );
        }
        if !is_localhost && (is_internal(address) || names.is_empty()) {
            let why = match names.is_empty() {
                true => format!("connected to {times}; no name of it was asked for"),
                false => "inside of a network: names that lead there need it too".to_owned(),
            };
            self.add(written(address, port), why);
        }
    }

    /// Rules for what was reached on this host, of both versions of IP together.
    fn add_loopback(&mut self, tcp: &[Reached<'_>]) {
        let mut loopback: BTreeMap<u16, u64> = BTreeMap::new();
        for ((to, _), count) in tcp.iter().filter(|((to, _), _)| is_localhost(to.ip())) {
            *loopback.entry(to.port()).or_default() += **count;
        }
        for (port, count) in loopback {
            let why = format!("connected to {}, on this host", times(count));
            self.add(format!("localhost:{port}"), why);
        }
    }
}

/// Why no list lets everything through that was reached, so that `network` has to stay "on".
#[derive(Debug, thiserror::Error)]
enum NoList {
    /// Datagrams were sent; `addresses` is how many they went to.
    #[error(
        "it sends datagrams (UDP) to {} ({first} first), which no list lets through",
        addresses_in_words(.addresses)
    )]
    Datagrams { first: SocketAddr, addresses: usize },
    /// Connections went to more ports than a list may have.
    #[error("it connects to {0} ports, and a list has {MAX_PORTS} at the most")]
    Ports(usize),
    /// Rules that no list may have, each with the reason.
    #[error("no list has all that it connects to ({})", .0.join("; "))]
    Rules(Vec<String>),
}

fn addresses_in_words(count: &usize) -> String {
    match count {
        1 => "one address".to_owned(),
        count => format!("{count} addresses"),
    }
}

/// The narrowest `network` with those rules.
///
/// # Errors
/// No list lets everything through.
fn network(rules: &[String], ports: usize, udp: &[Reached<'_>]) -> Result<Network, NoList> {
    if let Some(((first, _), _)) = udp.first() {
        return Err(NoList::Datagrams {
            first: *first,
            addresses: udp.len(),
        });
    }
    if rules.is_empty() {
        return Ok(Network::Off);
    }
    if ports > MAX_PORTS {
        return Err(NoList::Ports(ports));
    }
    let list = AllowList::parse(rules).map_err(|wrong| {
        let why = wrong.into_iter().take(MAX_TOLD_RULES).map(|(at, why)| {
            let text = rules.get(at).map(String::as_str).unwrap_or_default();
            format!("\"{text}\" {why}")
        });
        NoList::Rules(why.collect())
    })?;
    Ok(Network::Allow(list.into()))
}

/// Says which names were asked for whose addresses were never connected to, if there are such.
fn never_reached(recorded: &Recorded, rules: &Rules) -> Option<String> {
    let untold = recorded.asked.iter().filter(|name| {
        let is_it = |rule: &String| rule.rsplit_once(':').is_some_and(|(host, _)| host == *name);
        !rules.0.keys().any(is_it) && !name.as_str().eq("localhost")
    });
    let untold: Vec<_> = untold.take(MAX_TOLD_NAMES).map(String::as_str).collect();
    (!untold.is_empty()).then(|| {
        format!(
            "it asked for the addresses of {} and connected to none of them",
            untold.join(", ")
        )
    })
}

/// Whether `localhost` stands for an address.
fn is_localhost(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// An address with its port, as a rule has it.
fn written(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::profile::Seen;

    fn recorded(seen: impl IntoIterator<Item = Seen>) -> Recorded {
        let mut recorded = Recorded::default();
        for it in seen {
            recorded.take(it);
        }
        recorded
    }

    fn reached(to: &str, transport: Transport) -> Seen {
        Seen::Reached {
            to: to.parse().expect("an address"),
            transport,
        }
    }

    fn rules_of(recorded: &Recorded) -> Vec<String> {
        let hosts = hosts(recorded, &HostsFile::default(), &BTreeMap::new());
        hosts.rules.into_iter().map(|(rule, _)| rule).collect()
    }

    #[test]
    fn names_are_proposed_and_addresses_where_no_name_is_known() {
        let said = |name: &str, address: [u8; 4]| Seen::Answered {
            name: name.to_owned(),
            addresses: vec![Ipv4Addr::from(address).into()],
        };
        let recorded = recorded([
            said("api.example.com", [93, 184, 216, 34]),
            said("db.internal", [10, 0, 0, 7]),
            reached("93.184.216.34:443", Transport::Tcp),
            reached("10.0.0.7:5432", Transport::Tcp),
            reached("8.8.4.4:8443", Transport::Tcp),
            reached("127.0.0.1:9000", Transport::Tcp),
            reached("127.0.0.1:9001", Transport::Tcp),
            Seen::Listens(9001),
        ]);
        assert_eq!(
            rules_of(&recorded),
            [
                "10.0.0.7:5432",
                "8.8.4.4:8443",
                "api.example.com:443",
                "db.internal:5432",
                "localhost:9000"
            ]
        );
    }

    #[test]
    fn names_of_the_hosts_table_and_names_whose_answer_was_not_seen_count() {
        let file = HostsFile::read("10.1.1.1 Build.lan build # here\nnonsense\n::1 localhost\n");
        let recorded = recorded([
            reached("10.1.1.1:80", Transport::Tcp),
            reached("93.184.216.34:443", Transport::Tcp),
            Seen::Asked("example.com".to_owned()),
            Seen::Asked("never.example.com".to_owned()),
        ]);
        let address = "93.184.216.34".parse().expect("an address");
        let looked_up = BTreeMap::from([(address, BTreeSet::from(["example.com".to_owned()]))]);
        let hosts = hosts(&recorded, &file, &looked_up);
        let rules: Vec<_> = hosts.rules.iter().map(|(rule, _)| rule.as_str()).collect();
        assert_eq!(
            rules,
            ["10.1.1.1:80", "build.lan:80", "build:80", "example.com:443"]
        );
        assert_eq!(
            hosts.notes,
            ["it asked for the addresses of never.example.com and connected to none of them"]
        );
    }

    #[test]
    fn an_address_at_which_clouds_hand_out_credentials_is_warned_of() {
        let recorded = recorded([reached("169.254.169.254:80", Transport::Tcp)]);
        let hosts = hosts(&recorded, &HostsFile::default(), &BTreeMap::new());
        assert!(
            hosts.notes[0].contains("credentials of the machine"),
            "{:?}",
            hosts.notes
        );
    }

    #[test]
    fn nobody_is_off_and_datagrams_are_on() {
        let of =
            |recorded: &Recorded| hosts(recorded, &HostsFile::default(), &BTreeMap::new()).network;
        assert_eq!(of(&Recorded::default()), Network::Off);
        let quic = recorded([reached("93.184.216.34:443", Transport::Udp)]);
        assert_eq!(of(&quic), Network::On);
        let many =
            (1..=30_u16).map(|port| reached(&format!("93.184.216.34:{port}"), Transport::Tcp));
        assert_eq!(of(&recorded(many)), Network::On);
    }

    proptest! {
        #[test]
        fn every_host_that_was_connected_to_is_on_the_list(
            reached in proptest::collection::vec((any::<u32>(), 1..12_u16), 0..20),
            named in proptest::collection::vec((0..20_usize, "[a-z_]{1,8}(\\.[a-z]{2,5}){0,2}"), 0..20),
            listens in proptest::collection::btree_set(1..12_u16, 0..4),
        ) {
            let mut recorded = Recorded::default();
            for (ip, port) in &reached {
                recorded.take(Seen::Reached {
                    to: SocketAddr::new(Ipv4Addr::from(*ip).into(), *port),
                    transport: Transport::Tcp,
                });
            }
            for (at, name) in &named {
                if let Some((ip, _)) = reached.get(*at) {
                    let addresses = vec![Ipv4Addr::from(*ip).into()];
                    recorded.take(Seen::Answered { name: name.clone(), addresses });
                }
            }
            recorded.listens.extend(listens);
            let hosts = hosts(&recorded, &HostsFile::default(), &BTreeMap::new());
            for (to, _) in recorded.reached.keys() {
                let (address, port) = (to.ip(), to.port());
                let is_own = address.is_loopback() && recorded.listens.contains(&port);
                let names = recorded.names.get(&address);
                let has_name = |list: &AllowList| {
                    names.is_some_and(|names| names.iter().any(|it| list.allows_name(it, port)))
                };
                let is_allowed = match &hosts.network {
                    Network::On => true,
                    Network::Off => false,
                    Network::Allow(list) => list.lists_address(address, port) || has_name(list),
                };
                prop_assert!(is_own || is_allowed, "{to} by {:?}", hosts.network);
            }
        }
    }
}
