//! Answers questions for names in a worker's own network: to those on its list with an address that stands for the name, to all others that
//! there is no such name.
//!
//! "No such name" rather than "refused": on the latter, resolvers ask again, and programs wait.

use std::net::{Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE};
use tokio::time::Instant;

use super::names::NameTable;
use super::rule::AllowList;

/// Longest question that is read, in bytes: none that a resolver asks is longer.
const MAX_QUESTION: usize = 1024;
/// How long a program may keep an answer, in seconds.
const TTL: u32 = 60;

/// What came of a query, for the log of what a worker reaches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueryOutcome {
    /// The query concerns no host, or one that is listed.
    Ordinary,
    /// A name that is not listed.
    Unlisted(String),
    /// A listed name for which no address is left.
    Full(String),
}

/// The answer to a question, and what came of it; `None` for what is no question. Names get their addresses from `names`.
pub fn answer(
    question: &[u8],
    list: &AllowList,
    names: &mut NameTable,
    now: Instant,
) -> Option<(Vec<u8>, QueryOutcome)> {
    let query = read(question)?;
    let mut reply = Packet::new_reply(query.id());
    *reply.opcode_mut() = query.opcode();
    let mut flags = PacketFlag::RECURSION_AVAILABLE;
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        flags |= PacketFlag::RECURSION_DESIRED;
    }
    reply.set_flags(flags);
    let outcome = match query.questions.first() {
        Some(question) if query.opcode() == OPCODE::StandardQuery => {
            let (code, records, outcome) = resolve(question, list, names, now);
            *reply.rcode_mut() = code;
            reply.answers = records;
            outcome
        }
        _ => {
            *reply.rcode_mut() = RCODE::NotImplemented;
            QueryOutcome::Ordinary
        }
    };
    reply.questions = query.questions;
    Some((reply.build_bytes_vec().ok()?, outcome))
}

/// Reads a question, if it says that it is one alone: the library makes room for as many as a message says it has.
fn read(question: &[u8]) -> Option<Packet<'_>> {
    /// A reply, by the first bit of the third byte.
    const REPLY: u8 = 0x80;
    if question.len() > MAX_QUESTION {
        return None;
    }
    let header = question.first_chunk::<12>()?;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let is_one = count(4) == 1 && count(6) == 0 && count(8) == 0 && count(10) <= 2;
    if header[2] & REPLY != 0 || !is_one {
        return None;
    }
    Packet::parse(question).ok()
}

type Resolved<'q> = (RCODE, Vec<ResourceRecord<'q>>, QueryOutcome);

fn resolve<'q>(
    question: &simple_dns::Question<'q>,
    list: &AllowList,
    names: &mut NameTable,
    now: Instant,
) -> Resolved<'q> {
    let name = question.qname.to_string().to_ascii_lowercase();
    let is_internet = matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    if !is_internet || name.ends_with(".arpa") {
        return (RCODE::NameError, vec![], QueryOutcome::Ordinary);
    }
    let addresses = if name == "localhost" || name.ends_with(".localhost") {
        // RFC 6761: its own.
        (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST)
    } else if !list.knows(&name) {
        return (RCODE::NameError, vec![], QueryOutcome::Unlisted(name));
    } else {
        match question.qtype {
            QTYPE::TYPE(TYPE::A | TYPE::AAAA) => match names.assign(now, &name) {
                Some(address) => (address.v4(), address.v6()),
                None => return (RCODE::ServerFailure, vec![], QueryOutcome::Full(name)),
            },
            // There is such a name, and nothing else of it.
            _ => return (RCODE::NoError, vec![], QueryOutcome::Ordinary),
        }
    };
    let data = match question.qtype {
        QTYPE::TYPE(TYPE::A) => RData::A(A::from(addresses.0)),
        QTYPE::TYPE(TYPE::AAAA) => RData::AAAA(AAAA::from(addresses.1)),
        _ => return (RCODE::NoError, vec![], QueryOutcome::Ordinary),
    };
    let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, TTL, data);
    (RCODE::NoError, vec![record], QueryOutcome::Ordinary)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{Name, Question};

    use super::*;
    use crate::egress::Synthetic;

    fn list() -> AllowList {
        AllowList::parse(&["api.example.com".to_owned(), "*.below.example:1".to_owned()])
            .expect("rules")
    }

    fn question(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(name).expect("a name");
        let question = Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        packet.build_bytes_vec().expect("a packet")
    }

    fn ask(
        names: &mut NameTable,
        name: &str,
        kind: TYPE,
    ) -> (RCODE, Option<std::net::IpAddr>, QueryOutcome) {
        let (bytes, outcome) =
            answer(&question(name, kind), &list(), names, Instant::now()).expect("an answer");
        let reply = Packet::parse(&bytes).expect("a packet");
        assert_eq!(reply.id(), 7);
        assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
        assert_eq!(reply.questions.len(), 1);
        assert_eq!(reply.questions[0].qname.to_string(), name);
        let address = reply.answers.first().map(|record| match &record.rdata {
            RData::A(it) => Ipv4Addr::from_bits(it.address).into(),
            RData::AAAA(it) => Ipv6Addr::from_bits(it.address).into(),
            other => panic!("{other:?}"),
        });
        (reply.rcode(), address, outcome)
    }

    #[test]
    fn a_listed_name_has_an_address_that_stands_for_it() {
        let mut names = NameTable::default();
        for name in ["api.example.com", "x.below.example"] {
            let mut found = vec![];
            for kind in [TYPE::A, TYPE::AAAA, TYPE::A] {
                let (code, address, outcome) = ask(&mut names, name, kind);
                assert_eq!((code, outcome), (RCODE::NoError, QueryOutcome::Ordinary));
                found.push(Synthetic::of(address.expect("an address")).expect("of names"));
            }
            assert!(found.iter().all(|it| *it == found[0]), "one for both kinds");
            assert_eq!(names.name(found[0]).map(|it| &**it), Some(name));
        }
        let (code, address, outcome) = ask(&mut names, "API.example.COM", TYPE::A);
        assert_eq!((code, outcome), (RCODE::NoError, QueryOutcome::Ordinary));
        let address = Synthetic::of(address.expect("an address")).expect("of names");
        assert_eq!(names.name(address).map(|it| &**it), Some("api.example.com"));
        assert_eq!(
            ask(&mut names, "api.example.com", TYPE::MX),
            (RCODE::NoError, None, QueryOutcome::Ordinary)
        );
    }

    #[test]
    fn all_others_do_not_exist() {
        let mut names = NameTable::default();
        for name in [
            "evil.example",
            "example.com",
            "below.example",
            "api.example.com.evil.example",
        ] {
            for kind in [TYPE::A, TYPE::AAAA, TYPE::TXT, TYPE::MX] {
                let unlisted = QueryOutcome::Unlisted(name.to_owned());
                assert_eq!(
                    ask(&mut names, name, kind),
                    (RCODE::NameError, None, unlisted)
                );
            }
        }
        let (code, _, outcome) = ask(&mut names, "4.3.2.1.in-addr.arpa", TYPE::PTR);
        assert_eq!((code, outcome), (RCODE::NameError, QueryOutcome::Ordinary));
        let (_, address, _) = ask(&mut names, "localhost", TYPE::AAAA);
        assert_eq!(address, Some(Ipv6Addr::LOCALHOST.into()));
        // A dot within a label makes no other name of it.
        let (code, ..) = ask(&mut names, r"api\.example.com", TYPE::A);
        assert_eq!(code, RCODE::NameError);
    }

    #[test]
    fn what_is_no_question_has_no_answer() {
        let list = list();
        let mut names = NameTable::default();
        let now = Instant::now();
        let mut reply = question("api.example.com", TYPE::A);
        reply[2] |= 0x80;
        let mut many = question("api.example.com", TYPE::A);
        many[4..8].copy_from_slice(&[0xff; 4]);
        for bytes in [vec![], vec![0; 11], reply, many, vec![0; 2000]] {
            assert_eq!(answer(&bytes, &list, &mut names, now), None);
        }
        let mut notify = question("api.example.com", TYPE::A);
        notify[2] |= 4 << 3;
        let (bytes, _) = answer(&notify, &list, &mut names, now).expect("an answer");
        assert_eq!(bytes[3] & 15, 4, "not implemented");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0_usize..40, seed: bool) {
            if seed {
                let valid = question("x.below.example", TYPE::AAAA);
                let cut = cut.min(valid.len());
                bytes = [&valid[..cut], &bytes].concat();
            }
            let mut names = NameTable::default();
            if let Some((reply, _)) = answer(&bytes, &list(), &mut names, Instant::now()) {
                prop_assert_eq!(&reply[..2], &bytes[..2]);
                prop_assert!(reply[2] & 0x80 != 0);
            }
        }
    }
}
