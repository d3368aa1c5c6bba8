//! What a worker tries by its own network that nothing listens for: seen by the packets that ask for it, which the kernel refuses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of a packet that say all: the longest header of IPv4, and what of TCP's or UDP's names the port.
pub const MAX_HEAD: usize = 96;

/// Something that a worker tried to reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// The address that was tried.
    pub address: IpAddr,
    /// At which port.
    pub port: u16,
    /// By UDP, rather than by TCP.
    pub is_udp: bool,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// What a packet, which begins with its header of IPv4 or IPv6, tries to reach: the first of a connection, or any of UDP. `None` for all
/// others, and for what a worker sends to its own loopback.
pub fn attempt_of(packet: &[u8]) -> Option<Attempt> {
    let (protocol, address, head): (u8, IpAddr, usize) = match packet.first()? >> 4 {
        4 => {
            let address: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            let head = usize::from(packet[0] & 15) * 4;
            (packet[9], Ipv4Addr::from(address).into(), head)
        }
        6 => {
            let address: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (packet[6], Ipv6Addr::from(address).into(), 40)
        }
        _ => return None,
    };
    if address.to_canonical().is_loopback() {
        return None;
    }
    let head = packet.get(head..)?;
    let port = u16::from_be_bytes(*head.get(2..)?.first_chunk()?);
    match protocol {
        TCP if head.get(13)? & (SYN | ACK) == SYN => Some(Attempt {
            address,
            port,
            is_udp: false,
        }),
        UDP => Some(Attempt {
            address,
            port,
            is_udp: true,
        }),
        _ => None,
    }
}

/// Operations of the kernel's classic packet filters (socket(7), `SO_ATTACH_FILTER`).
mod op {
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_BYTE_AT_X: u16 = 0x50;
    pub(super) const X_HEADER_LENGTH: u16 = 0xb1;
    pub(super) const AND: u16 = 0x54;
    pub(super) const SHIFT_RIGHT: u16 = 0x74;
    pub(super) const IF_EQUAL: u16 = 0x15;
    pub(super) const RETURN: u16 = 0x06;
}

/// A filter that lets such packets alone pass, and of them no more than their heads: the bytes of data of a connection stay where they are.
/// As (operation, steps if true, steps if false, number).
pub fn head_filter() -> Vec<(u16, u8, u8, u32)> {
    /// The packet goes out: of what does, the loopback has each packet too (`SKF_AD_OFF + SKF_AD_PKTTYPE`).
    const KIND: u32 = 0xffff_f004;
    const OUTGOING: u32 = 4;
    use op::{
        AND, IF_EQUAL, LOAD_BYTE, LOAD_BYTE_AT_X, LOAD_WORD, RETURN, SHIFT_RIGHT, X_HEADER_LENGTH,
    };
    let flags = u32::from(SYN | ACK);
    let (tcp, udp) = (u32::from(TCP), u32::from(UDP));
    let steps = [
        // 0
        (LOAD_BYTE, 0, 0, KIND),
        (IF_EQUAL, DROP - 2, 0, OUTGOING),
        (LOAD_BYTE, 0, 0, 0),
        (SHIFT_RIGHT, 0, 0, 4),
        (IF_EQUAL, 0, 6, 4),
        // 5: IPv4. Not to 127.0.0.0/8.
        (LOAD_BYTE, 0, 0, 16),
        (IF_EQUAL, DROP - 7, 0, 127),
        (X_HEADER_LENGTH, 0, 0, 0),
        (LOAD_BYTE, 0, 0, 9),
        (IF_EQUAL, TAKE - 10, 0, udp),
        (IF_EQUAL, 12, DROP - 11, tcp),
        // 11: IPv6. Not to ::1.
        (IF_EQUAL, 0, DROP - 12, 6),
        (LOAD_WORD, 0, 0, 24),
        (IF_EQUAL, 0, 6, 0),
        (LOAD_WORD, 0, 0, 28),
        (IF_EQUAL, 0, 4, 0),
        (LOAD_WORD, 0, 0, 32),
        (IF_EQUAL, 0, 2, 0),
        (LOAD_WORD, 0, 0, 36),
        (IF_EQUAL, DROP - 20, 0, 1),
        // 20
        (LOAD_BYTE, 0, 0, 6),
        (IF_EQUAL, TAKE - 22, 0, udp),
        (IF_EQUAL, 2, DROP - 23, tcp),
        // 23: the flags of TCP behind a header of IPv4, whose length is in X, ...
        (LOAD_BYTE_AT_X, 0, 0, 13),
        (IF_EQUAL, 1, 1, 0),
        // 25: ... and behind one of IPv6.
        (LOAD_BYTE, 0, 0, 53),
        (AND, 0, 0, flags),
        (IF_EQUAL, 0, 1, u32::from(SYN)),
        // 28, 29
        (RETURN, 0, 0, MAX_HEAD_U32),
        (RETURN, 0, 0, 0),
    ];
    steps.to_vec()
}

/// Places in the filter.
const TAKE: u8 = 28;
const DROP: u8 = 29;
const MAX_HEAD_U32: u32 = 96;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a filter as the kernel does, as far as this one goes.
    fn run(packet: &[u8], is_outgoing: bool) -> u32 {
        let filter = head_filter();
        let (mut a, mut x, mut at) = (0_u32, 0_usize, 0_usize);
        loop {
            let (op, jt, jf, k) = filter[at];
            at += 1;
            let byte = |at: usize| packet.get(at).copied().map(u32::from);
            let place = usize::try_from(k).expect("fits");
            let loaded = match op {
                op::LOAD_BYTE if k == 0xffff_f004 => Some(if is_outgoing { 4 } else { 0 }),
                op::LOAD_BYTE => byte(place),
                op::LOAD_BYTE_AT_X => byte(x + place),
                op::LOAD_WORD => packet
                    .get(place..)
                    .and_then(|it| it.first_chunk())
                    .map(|it| u32::from_be_bytes(*it)),
                op::X_HEADER_LENGTH => {
                    let Some(first) = packet.get(place) else {
                        return 0;
                    };
                    x = usize::from(first & 15) * 4;
                    Some(a)
                }
                op::AND => Some(a & k),
                op::SHIFT_RIGHT => Some(a >> k),
                op::IF_EQUAL => {
                    at += usize::from(if a == k { jt } else { jf });
                    Some(a)
                }
                op::RETURN => return k,
                other => panic!("{other}"),
            };
            // A load beyond the packet drops it.
            let Some(loaded) = loaded else { return 0 };
            a = loaded;
        }
    }

    fn v4(to: [u8; 4], protocol: u8, options: usize, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + 4 * options];
        packet[0] = 0x45 + u8::try_from(options).expect("few");
        packet[9] = protocol;
        packet[16..20].copy_from_slice(&to);
        packet.extend(rest);
        packet
    }

    fn v6(to: &str, protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = protocol;
        let to: Ipv6Addr = to.parse().expect("an address");
        packet[24..].copy_from_slice(&to.octets());
        packet.extend(rest);
        packet
    }

    fn segment(port: u16, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[13] = flags;
        bytes
    }

    #[test]
    fn the_first_packet_of_a_connection_says_what_it_is_for() {
        let taken = [
            (
                v4([8, 8, 8, 8], TCP, 0, &segment(444, SYN)),
                "8.8.8.8",
                444,
                false,
            ),
            (
                v4([8, 8, 8, 8], TCP, 3, &segment(444, SYN)),
                "8.8.8.8",
                444,
                false,
            ),
            (
                v4([10, 0, 0, 1], UDP, 0, &segment(53, 0)),
                "10.0.0.1",
                53,
                true,
            ),
            (
                v6("2606:4700::1", TCP, &segment(22, SYN)),
                "2606:4700::1",
                22,
                false,
            ),
            (v6("::2", UDP, &segment(123, 0)), "::2", 123, true),
        ];
        for (packet, address, port, is_udp) in taken {
            let address = address.parse().expect("an address");
            let attempt = Attempt {
                address,
                port,
                is_udp,
            };
            assert_eq!(attempt_of(&packet), Some(attempt));
            assert_eq!(run(&packet, false), MAX_HEAD_U32, "{attempt:?}");
            assert_eq!(run(&packet, true), 0, "once");
        }
        let left = [
            v4([8, 8, 8, 8], TCP, 0, &segment(444, SYN | ACK)),
            v4([8, 8, 8, 8], TCP, 0, &segment(444, ACK)),
            v4([127, 0, 0, 1], TCP, 0, &segment(444, SYN)),
            v4([127, 0, 0, 53], UDP, 0, &segment(53, 0)),
            v4([8, 8, 8, 8], 1, 0, &segment(444, SYN)),
            v6("::1", TCP, &segment(444, SYN)),
            v6("::1", UDP, &segment(444, 0)),
            v6("2606:4700::1", TCP, &segment(22, ACK)),
            v6("2606:4700::1", 58, &segment(22, SYN)),
            vec![],
        ];
        for packet in left {
            assert_eq!(attempt_of(&packet), None, "{packet:?}");
            assert_eq!(run(&packet, false), 0, "{packet:?}");
        }
    }

    #[test]
    fn the_filter_has_room_for_every_head() {
        assert_eq!(usize::try_from(MAX_HEAD_U32), Ok(MAX_HEAD));
        let filter = head_filter();
        assert_eq!(filter.len(), usize::from(DROP) + 1);
        for (at, (op, jt, jf, _)) in filter.iter().enumerate() {
            let furthest = usize::from(*jt.max(jf));
            assert!(
                *op == op::RETURN || at + 1 + furthest < filter.len(),
                "{at}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_the_filter_takes_is_read_and_no_bytes_panic(version in prop_oneof![Just(0x40_u8), Just(0x60)], low in 0_u8..16, mut bytes in prop::collection::vec(any::<u8>(), 1..100), protocol in prop_oneof![Just(TCP), Just(UDP), any::<u8>()]) {
            bytes[0] = version | low;
            let at = if version == 0x40 { 9 } else { 6 };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = protocol;
            }
            let is_taken = run(&bytes, false) != 0;
            if attempt_of(&bytes).is_some() && !(version == 0x60 && bytes[24..34].iter().all(|it| *it == 0)) {
                prop_assert!(is_taken);
            }
        }
    }
}
