//! Names in what a program sends to a resolver and hears from it: DNS (RFC 1035), nscd of glibc, and `io.systemd.Resolve`.
//!
//! What is read was written by strangers: nothing of it is trusted but for what it is shown as.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::Packet;
use simple_dns::rdata::RData;

/// Longest message that is read, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Most addresses of one answer.
const MAX_ADDRESSES: usize = 64;

/// The kind of resolver that a socket leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Questions {
    /// DNS by datagrams.
    Dns,
    /// DNS by a connection: the length comes before each message.
    DnsStream,
    /// nscd, by its socket.
    Nscd,
    /// systemd-resolved, by varlink.
    Resolved,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A name that was asked for.
    Asked(String),
    /// A name, and the addresses that it has.
    Answered(String, Vec<IpAddr>),
    /// Addresses of the name that was asked for last.
    Addresses(Vec<IpAddr>),
}

/// Reads a message that was sent or received there; `None` if it says nothing of names.
pub fn heard(by: Questions, message: &[u8]) -> Option<Heard> {
    match by {
        Questions::Dns => dns(message),
        Questions::DnsStream => dns_stream(message),
        Questions::Nscd => nscd(message),
        Questions::Resolved => resolved(message),
    }
}

fn dns_stream(message: &[u8]) -> Option<Heard> {
    // The length may have been sent, or read, by itself.
    let whole = message.split_first_chunk::<2>().and_then(|(len, rest)| {
        let len = usize::from(u16::from_be_bytes(*len));
        rest.get(..len)
    });
    whole.and_then(dns).or_else(|| dns(message))
}

fn dns(message: &[u8]) -> Option<Heard> {
    /// A reply, by the first bit of the third byte.
    const REPLY: u8 = 0x80;
    /// Shortest record: a name of one byte, type, class, time and length.
    const SHORTEST: usize = 11;
    if message.len() > MAX_MESSAGE {
        return None;
    }
    let header = message.first_chunk::<12>()?;
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    // The library makes room for as many records as a message says it has.
    let records = count(6) + count(8) + count(10);
    if count(4) != 1 || records * SHORTEST > message.len() {
        return None;
    }
    let packet = Packet::parse(message).ok()?;
    let name = host(&packet.questions.first()?.qname.to_string())?;
    if header[2] & REPLY == 0 {
        return Some(Heard::Asked(name));
    }
    let addresses = packet.answers.iter().filter_map(|it| match &it.rdata {
        RData::A(it) => Some(IpAddr::from(Ipv4Addr::from(it.address))),
        RData::AAAA(it) => Some(IpAddr::from(Ipv6Addr::from(it.address))),
        _ => None,
    });
    let addresses = addresses.take(MAX_ADDRESSES).collect();
    Some(Heard::Answered(name, addresses))
}

/// A request of nscd: version, type and length of the key as numbers of this host, then the name (nscd-client.h of glibc).
fn nscd(message: &[u8]) -> Option<Heard> {
    const VERSION: i32 = 2;
    /// GETHOSTBYNAME, GETHOSTBYNAMEv6, GETAI.
    const OF_NAMES: [i32; 3] = [4, 5, 14];
    let number = |at: usize| {
        let bytes = message.get(at..at + 4)?.first_chunk::<4>()?;
        Some(i32::from_ne_bytes(*bytes))
    };
    if number(0)? != VERSION || !OF_NAMES.contains(&number(4)?) {
        return None;
    }
    let len = usize::try_from(number(8)?).ok()?;
    let key = message.get(12..12_usize.checked_add(len)?)?;
    let key = key.strip_suffix(&[0]).unwrap_or(key);
    host(std::str::from_utf8(key).ok()?).map(Heard::Asked)
}

/// A message of varlink: JSON, and a zero at its end.
fn resolved(message: &[u8]) -> Option<Heard> {
    if message.len() > MAX_MESSAGE {
        return None;
    }
    let text = message.split(|byte| *byte == 0).next()?;
    let message: serde_json::Value = serde_json::from_slice(text).ok()?;
    let parameters = message.get("parameters")?;
    match message.get("method").map(serde_json::Value::as_str) {
        Some(Some("io.systemd.Resolve.ResolveHostname")) => {
            host(parameters.get("name")?.as_str()?).map(Heard::Asked)
        }
        Some(_) => None,
        None => resolved_addresses(parameters).map(Heard::Addresses),
    }
}

/// The answer of systemd-resolved to the question before it.
fn resolved_addresses(parameters: &serde_json::Value) -> Option<Vec<IpAddr>> {
    let all = parameters.get("addresses")?.as_array()?;
    let address = |it: &serde_json::Value| {
        let bytes = it.get("address")?.as_array()?.iter();
        let bytes: Option<Vec<u8>> = bytes
            .map(|byte| byte.as_u64().and_then(|it| u8::try_from(it).ok()))
            .collect();
        let bytes = bytes?;
        let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(bytes.as_slice()).map(IpAddr::from))
            .ok()
    };
    Some(all.iter().filter_map(address).take(MAX_ADDRESSES).collect())
}

/// A name of a host in lower case, without a dot at its end; `None` for what is none, and for what names of addresses are asked by.
fn host(name: &str) -> Option<String> {
    const LONGEST: usize = 253;
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_letter = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
    let is_one = !name.is_empty()
        && name.len() <= LONGEST
        && name.chars().all(is_letter)
        && !name.ends_with(".arpa")
        && name.parse::<IpAddr>().is_err();
    is_one.then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::rdata::{A, CNAME};
    use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

    use super::*;

    fn question(name: &str) -> Question<'_> {
        let name = Name::new(name).expect("a name");
        Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false)
    }

    fn asks(name: &str) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.questions.push(question(name));
        packet.build_bytes_vec().expect("built")
    }

    fn answers(name: &str, alias: &str, address: Ipv4Addr) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        packet.questions.push(question(name));
        let record = |of: &'static str, data| {
            ResourceRecord::new(
                Name::new(of).expect("a name").into_owned(),
                CLASS::IN,
                60,
                data,
            )
        };
        let alias: &'static str = String::leak(alias.to_owned());
        let name: &'static str = String::leak(name.to_owned());
        let to = CNAME(Name::new(alias).expect("a name"));
        packet.answers.push(record(name, RData::CNAME(to)));
        packet
            .answers
            .push(record(alias, RData::A(A::from(address))));
        packet.build_bytes_vec().expect("built")
    }

    #[test]
    fn an_address_has_the_name_that_was_asked_for_and_not_its_alias() {
        let asked = Heard::Asked("api.example.com".to_owned());
        assert_eq!(heard(Questions::Dns, &asks("API.example.com")), Some(asked));
        let address = Ipv4Addr::new(192, 0, 2, 7);
        let reply = answers("api.example.com", "edge.example.net", address);
        let said = Heard::Answered("api.example.com".to_owned(), vec![address.into()]);
        assert_eq!(heard(Questions::Dns, &reply), Some(said.clone()));
        let len = u16::try_from(reply.len()).expect("short").to_be_bytes();
        let stream = [len.as_slice(), &reply].concat();
        assert_eq!(heard(Questions::DnsStream, &stream), Some(said.clone()));
        assert_eq!(heard(Questions::DnsStream, &reply), Some(said));
    }

    #[test]
    fn other_resolvers_are_understood_as_far_as_they_are_asked() {
        let mut request = Vec::new();
        for number in [2_i32, 14, 12] {
            request.extend(number.to_ne_bytes());
        }
        request.extend(b"example.com\0");
        let asked = Some(Heard::Asked("example.com".to_owned()));
        assert_eq!(heard(Questions::Nscd, &request), asked);
        let request = b"{\"method\":\"io.systemd.Resolve.ResolveHostname\",\"parameters\":{\"name\":\"example.com\"}}\0";
        assert_eq!(heard(Questions::Resolved, request), asked);
        let reply = b"{\"parameters\":{\"addresses\":[{\"family\":2,\"address\":[192,0,2,7]}]}}\0";
        let addresses = vec![Ipv4Addr::new(192, 0, 2, 7).into()];
        assert_eq!(
            heard(Questions::Resolved, reply),
            Some(Heard::Addresses(addresses))
        );
    }

    #[test]
    fn names_of_addresses_and_addresses_are_no_names() {
        for none in ["", "7.2.0.192.in-addr.arpa", "192.0.2.7", "a b", "a\n"] {
            assert_eq!(host(none), None, "{none}");
        }
        assert_eq!(
            host("_srv.Example.com."),
            Some("_srv.example.com".to_owned())
        );
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_read_or_not(
            message in proptest::collection::vec(any::<u8>(), 0..600),
            cut in 0..200_usize,
            flip in any::<(usize, u8)>(),
        ) {
            let mut real = answers("api.example.com", "edge.example.net", Ipv4Addr::LOCALHOST);
            let at = flip.0 % real.len();
            real[at] = flip.1;
            real.truncate(real.len().saturating_sub(cut));
            for by in [Questions::Dns, Questions::DnsStream, Questions::Nscd, Questions::Resolved] {
                for message in [&message, &real] {
                    if let Some(Heard::Asked(name) | Heard::Answered(name, _)) = heard(by, message) {
                        prop_assert!(name.len() <= 253 && !name.contains(char::is_whitespace));
                    }
                }
            }
        }
    }
}
