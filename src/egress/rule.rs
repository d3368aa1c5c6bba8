//! The rules of an allow-list: which hosts, and which of their ports.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::address::{internal_network, plain};
use super::names::Synthetic;

/// Rules of a list at the most.
const MAX_RULES: usize = 256;
/// Different ports of a list at the most: each has a listener in the network of every worker.
pub const MAX_PORTS: usize = 24;
/// Ports of a rule that names none: those of HTTPS and HTTP.
const USUAL_PORTS: [u16; 2] = [80, 443];

/// Why a text is no rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    /// `*` alone.
    #[error("would be every host: write `network = \"on\"` for that, or \"*.example.com\"")]
    Everything,
    /// A URL.
    #[error(
        "is a URL: write the host alone, with its port if that is neither 443 nor 80, such as \"{0}\""
    )]
    Url(String),
    /// A path behind a host.
    #[error("has a path, which is not looked at: write the host alone, such as \"{0}\"")]
    Path(String),
    /// A port that is none.
    #[error("has a port that is none: a number from 1 to 65535")]
    Port,
    /// `*` elsewhere than as the first label.
    #[error(
        "has a `*` that is not its whole first label: \"*.example.com\" is every name below example.com"
    )]
    Wildcard,
    /// Neither a name nor an address.
    #[error(
        "is neither a name such as \"api.example.com\" or \"*.example.com\", nor an address such as \"10.0.0.7\", \"[fd00::7]\" or \"10.0.0.0/24\", with a port such as \":8443\" or without"
    )]
    Host,
    /// A network of all addresses.
    #[error(
        "has so many addresses that it is no list: a network of at least /8, of IPv6 /16, or `network = \"on\"`"
    )]
    Wide,
    /// What names are given.
    #[error(
        "is of the addresses that names are given in a worker's own network (198.18.0.0/15, {}): they lead to no host",
        Synthetic::V6_NETWORK
    )]
    Synthetic,
    /// Too many of something.
    #[error("is one too many: {what} of a list are at the most {most}")]
    Many {
        /// Of what.
        what: &'static str,
        /// How many the list may have.
        most: usize,
    },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Host {
    /// The host of exactly this name, in lower case, without a dot at its end.
    Name(String),
    /// Names that end so; it begins with a dot.
    Below(String),
    /// An address, or all of a network.
    Net(IpNet),
}

/// A rule: a host, and ports of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    host: Host,
    /// `None`: the usual ones.
    port: Option<u16>,
}

impl Rule {
    /// Reads a rule as pool.toml has it: `api.example.com`, `*.example.com:8443`, `10.0.0.7:5432`, `[fd00::7]:443`, `10.0.0.0/24`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return Err(RuleError::Url(host.to_owned()));
        }
        if text == "*" || text.starts_with("*:") {
            return Err(RuleError::Everything);
        }
        let (host, port) = split_port(text)?;
        let host = read_host(host)?;
        if let Host::Net(net) = &host {
            check_network(*net)?;
        }
        Ok(Self { host, port })
    }

    /// The ports of the rule.
    pub fn ports(&self) -> impl Iterator<Item = u16> + use<> {
        let (own, usual) = match self.port {
            Some(port) => (Some(port), None),
            None => (None, Some(USUAL_PORTS)),
        };
        own.into_iter().chain(usual.into_iter().flatten())
    }

    /// Whether the rule names no port.
    pub fn has_usual_ports(&self) -> bool {
        self.port.is_none()
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports().any(|it| it == port)
    }

    /// Whether the rule is about that name, which is in lower case.
    fn has_name(&self, name: &str) -> bool {
        match &self.host {
            Host::Name(own) => own == name,
            Host::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
            Host::Net(_) => false,
        }
    }

    /// Whether the rule names that address: by itself, or as one of a network, if the address is internal of a part of the internal one.
    fn has_address(&self, address: IpAddr) -> bool {
        match &self.host {
            // What every resolver knows without asking.
            Host::Name(name) => name == "localhost" && is_loopback(address),
            Host::Below(_) => false,
            Host::Net(net) => {
                net.contains(&address)
                    && internal_network(address).is_none_or(|around| around.contains(net))
            }
        }
    }

    /// Whether everything that the other allows it allows too.
    fn covers(&self, other: &Self) -> bool {
        let has_host = match (&self.host, &other.host) {
            (_, Host::Name(name)) => self.has_name(name),
            (Host::Below(own), Host::Below(end)) => end.ends_with(own.as_str()),
            (Host::Net(own), Host::Net(net)) => own.contains(net),
            (Host::Name(_), Host::Net(net)) => {
                net.prefix_len() == net.max_prefix_len() && self.has_address(net.addr())
            }
            (Host::Name(_) | Host::Net(_), Host::Below(_)) | (Host::Below(_), Host::Net(_)) => {
                false
            }
        };
        has_host && other.ports().all(|port| self.has_port(port))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Below(end) => write!(f, "*{end}")?,
            Host::Net(net) if net.prefix_len() == net.max_prefix_len() => match net.addr() {
                IpAddr::V4(address) => write!(f, "{address}")?,
                IpAddr::V6(address) => write!(f, "[{address}]")?,
            },
            Host::Net(IpNet::V4(net)) => write!(f, "{net}")?,
            Host::Net(IpNet::V6(net)) => write!(f, "[{net}]")?,
        }
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address == IpAddr::from([127, 0, 0, 1]) || address == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// Takes the port off a text.
fn split_port(text: &str) -> Result<(&str, Option<u16>), RuleError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or(RuleError::Host)?;
            match behind.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if behind.is_empty() => (host, None),
                None => return Err(RuleError::Host),
            }
        }
        // Several colons: an address of IPv6.
        None if text.matches(':').count() > 1 => (text, None),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let Some(port) = port else {
        return Ok((host, None));
    };
    if let Some((port, _)) = port.split_once('/') {
        return Err(RuleError::Path(format!("{host}:{port}")));
    }
    let is_number = port.bytes().all(|it| it.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number @ 1..) if is_number => Ok((host, Some(number))),
        _ => Err(RuleError::Port),
    }
}

fn read_host(text: &str) -> Result<Host, RuleError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(Host::Net(plain(address).into()));
    }
    if let Some((host, behind)) = text.split_once('/') {
        if host.parse::<IpAddr>().is_ok() {
            let net: IpNet = text.parse().map_err(|_| RuleError::Host)?;
            return Ok(Host::Net(net.trunc()));
        }
        let _of_the_path = behind;
        return Err(RuleError::Path(host.to_owned()));
    }
    match text.strip_prefix("*.") {
        Some(end) => Ok(Host::Below(format!(".{}", read_name(end)?))),
        None => read_name(text).map(Host::Name),
    }
}

/// A name as it is asked for: in lower case, in the letters of DNS.
fn read_name(text: &str) -> Result<String, RuleError> {
    if text.contains('*') {
        return Err(RuleError::Wildcard);
    }
    // What URLs would decode, or take for something else.
    let is_odd = |it: char| it.is_whitespace() || it.is_control() || "%?#@\\/".contains(it);
    if text.contains(is_odd) {
        return Err(RuleError::Host);
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let Ok(url::Host::Domain(name)) = url::Host::parse(text) else {
        // An address in a spelling of its own, such as 127.1.
        return Err(RuleError::Host);
    };
    let is_label = |label: &str| (1..=63).contains(&label.len());
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(RuleError::Host);
    }
    Ok(name)
}

fn check_network(net: IpNet) -> Result<(), RuleError> {
    let least = match net {
        IpNet::V4(_) => 8,
        IpNet::V6(_) => 16,
    };
    if net.prefix_len() < least {
        return Err(RuleError::Wide);
    }
    let overlaps = |own: IpNet| own.contains(&net) || net.contains(&own);
    match Synthetic::networks().into_iter().any(overlaps) {
        true => Err(RuleError::Synthetic),
        false => Ok(()),
    }
}

/// The hosts that a server may reach.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AllowList {
    rules: Vec<Rule>,
    texts: Vec<String>,
}

impl AllowList {
    /// Reads the rules of a list.
    ///
    /// # Errors
    /// Texts that are no rules, by their places from 0.
    pub fn parse(texts: &[String]) -> Result<Self, Vec<(usize, RuleError)>> {
        let mut list = Self::default();
        let mut wrong = Vec::new();
        let mut ports = BTreeSet::new();
        for (at, text) in texts.iter().enumerate() {
            let rule = match Rule::parse(text) {
                Ok(rule) => rule,
                Err(why) => {
                    wrong.push((at, why));
                    continue;
                }
            };
            ports.extend(rule.ports());
            let many = |what, most| RuleError::Many { what, most };
            if ports.len() > MAX_PORTS {
                wrong.push((at, many("different ports", MAX_PORTS)));
            } else if at >= MAX_RULES {
                wrong.push((at, many("entries", MAX_RULES)));
            }
            list.texts.push(rule.to_string());
            list.rules.push(rule);
        }
        match wrong.is_empty() {
            true => Ok(list),
            false => Err(wrong),
        }
    }

    /// The rules as they are written, in one spelling.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// All ports that a rule has.
    pub fn ports(&self) -> BTreeSet<u16> {
        self.rules.iter().flat_map(Rule::ports).collect()
    }

    /// Whether a rule is about a name, which is in lower case, on whatever port.
    pub fn knows(&self, name: &str) -> bool {
        self.rules.iter().any(|rule| rule.has_name(name))
    }

    /// Whether a name may be reached on a port.
    pub fn allows_name(&self, name: &str, port: u16) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.has_port(port) && rule.has_name(name))
    }

    /// Whether an address is listed as such, with a port.
    pub fn lists_address(&self, address: IpAddr, port: u16) -> bool {
        let address = plain(address);
        let mut rules = self.rules.iter();
        rules.any(|rule| rule.has_port(port) && rule.has_address(address))
    }

    /// The first of its rules that allows more than another list does.
    pub fn beyond<'l>(&'l self, other: &Self) -> Option<&'l Rule> {
        let is_covered = |rule: &&Rule| other.rules.iter().any(|it| it.covers(rule));
        self.rules.iter().find(|rule| !is_covered(rule))
    }

    /// The rules that allow nothing which another one does not, and that other.
    pub fn needless(&self) -> Vec<(&Rule, &Rule)> {
        let mut found = Vec::new();
        for (at, rule) in self.rules.iter().enumerate() {
            let others = self.rules.iter().enumerate();
            let mut covering = others.filter(|(other, it)| {
                *other != at && it.covers(rule) && (!rule.covers(it) || *other < at)
            });
            if let Some((_, by)) = covering.next() {
                found.push((rule, by));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(texts: &[&str]) -> AllowList {
        let texts: Vec<String> = texts.iter().map(|it| (*it).to_owned()).collect();
        AllowList::parse(&texts).unwrap_or_else(|wrong| panic!("{texts:?}: {wrong:?}"))
    }

    #[test]
    fn a_rule_is_a_host_and_ports_of_it() {
        let list = list(&[
            "API.GitHub.com.",
            "*.example.com:8443",
            "10.0.0.7:5432",
            "[fd00::7]:443",
            "bücher.example",
        ]);
        assert_eq!(
            list.texts(),
            [
                "api.github.com",
                "*.example.com:8443",
                "10.0.0.7:5432",
                "[fd00::7]:443",
                "xn--bcher-kva.example"
            ]
        );
        assert!(list.allows_name("api.github.com", 443) && list.allows_name("api.github.com", 80));
        assert!(!list.allows_name("api.github.com", 8443));
        assert!(list.allows_name("a.b.example.com", 8443));
        assert!(
            !list.allows_name("a.example.com", 443),
            "known on another port"
        );
        for other in [
            "example.com",
            "notexample.com",
            "example.com.evil.org",
            ".example.com",
            "",
        ] {
            assert!(!list.knows(other), "{other}");
        }
        assert_eq!(
            list.ports().into_iter().collect::<Vec<_>>(),
            [80, 443, 5432, 8443]
        );
    }

    #[test]
    fn what_is_no_rule_says_what_to_write() {
        for (text, part) in [
            ("*", "network = \"on\""),
            ("*:443", "network = \"on\""),
            ("https://api.github.com/x", "such as \"api.github.com\""),
            ("api.github.com/repos", "has a path"),
            ("api.github.com:443/repos", "such as \"api.github.com:443\""),
            ("api.github.com:0", "1 to 65535"),
            ("api.github.com:65536", "1 to 65535"),
            ("api.github.com:+80", "1 to 65535"),
            ("api.github.com:", "1 to 65535"),
            ("a.*.com", "first label"),
            ("*a.com", "first label"),
            ("*.", "neither a name"),
            ("", "neither a name"),
            ("a b", "neither a name"),
            ("a@b", "neither a name"),
            ("127.1", "neither a name"),
            ("0x7f000001", "neither a name"),
            ("10.0.0.0/33", "neither a name"),
            ("[::1", "neither a name"),
            ("0.0.0.0/0", "/8"),
            ("::/0", "/8"),
            ("198.18.0.5", "lead to no host"),
        ] {
            let error = Rule::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn an_internal_address_is_reached_only_as_such() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let names = list(&[
            "db.internal:5432",
            "localhost:9000",
            "10.1.0.0/16:5432",
            "169.0.0.0/8",
            "[fd00::/16]",
        ]);
        assert!(names.lists_address(address("10.1.2.3"), 5432));
        assert!(names.lists_address(address("::ffff:10.1.2.3"), 5432));
        assert!(!names.lists_address(address("10.2.2.3"), 5432));
        assert!(!names.lists_address(address("10.1.2.3"), 443));
        assert!(
            names.lists_address(address("127.0.0.1"), 9000),
            "as localhost"
        );
        assert!(!names.lists_address(address("127.0.0.2"), 9000));
        assert!(names.lists_address(address("169.1.1.1"), 443));
        assert!(
            !names.lists_address(address("169.254.169.254"), 443),
            "in a network that is more than link-local"
        );
        assert!(names.lists_address(address("fd00::1"), 443));
    }

    #[test]
    fn a_tenants_list_narrows_a_servers() {
        let all = list(&["*.example.com:443", "api.github.com", "10.0.0.0/16:5432"]);
        for (narrower, is) in [
            ("a.example.com:443", true),
            ("*.a.example.com:443", true),
            ("a.example.com", false),
            ("example.com:443", false),
            ("*.com:443", false),
            ("api.github.com:443", true),
            ("api.github.com:22", false),
            ("10.0.1.0/24:5432", true),
            ("10.0.0.0/8:5432", false),
            ("10.0.0.1:5432", true),
        ] {
            assert_eq!(list(&[narrower]).beyond(&all).is_none(), is, "{narrower}");
        }
        assert!(list(&["a.b:1", "*.b:1"]).needless().len() == 1);
        assert!(list(&["a.b:1", "a.b:1"]).needless().len() == 1);
        assert!(list(&["a.b:1", "a.b:2"]).needless().is_empty());
    }

    #[test]
    fn a_list_has_bounds() {
        let ports: Vec<String> = (1..=25).map(|port| format!("a.b:{port}")).collect();
        assert_eq!(AllowList::parse(&ports).expect_err("too many").len(), 1);
        let names: Vec<String> = (0..=256).map(|n| format!("n{n}.b")).collect();
        assert!(AllowList::parse(&names).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_read_the_same_again(text in "\\PC{0,24}|[a-z*.:/\\[\\]0-9-]{0,24}") {
            if let Ok(rule) = Rule::parse(&text) {
                let again = Rule::parse(&rule.to_string());
                prop_assert_eq!(again.as_ref(), Ok(&rule));
                prop_assert!(rule.covers(&rule));
            }
        }

        #[test]
        fn a_name_below_is_allowed_and_no_other(label in "[a-z]{1,8}", other in "[a-z]{1,8}\\.[a-z]{2,3}") {
            let list = list(&["*.example.com:1"]);
            let name = format!("{label}.example.com");
            prop_assert!(list.allows_name(&name, 1));
            let looks_alike = format!("{label}example.com");
            prop_assert!(!list.allows_name(&looks_alike, 1));
            let before = format!("x.example.com.{other}");
            prop_assert!(!list.allows_name(&before, 1));
        }
    }
}
