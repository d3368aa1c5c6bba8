//! Addresses that lie inside of some network rather than in the internet, and what leads to such in disguise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> IpNet {
    let address = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}

/// Networks of no host of the internet (IANA's registries of special-purpose addresses), and addresses at which clouds tell a machine
/// about itself.
const INTERNAL: [IpNet; 30] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    // Of carriers; Alibaba's metadata are in it.
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    // Link-local, with most clouds' metadata.
    v4(169, 254, 0, 0, 16),
    // Azure's, though it is a public address.
    v4(168, 63, 129, 16, 32),
    v4(172, 16, 0, 0, 12),
    // Oracle's metadata are in it.
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    // Loopback, addresses of IPv4 written as IPv6 in two ways, and what translates to them (NAT64): all below 2000::.
    v6(0, 0, 0, 3),
    // Of 2000::/3: Teredo, benchmarks, ORCHID.
    v6(0x2001, 0, 0, 23),
    v6(0x2001, 0xdb8, 0, 32),
    // 6to4 has an address of IPv4 in it.
    v6(0x2002, 0, 0, 16),
    v6(0x3fff, 0, 0, 20),
    // Above 3fff::, up to unique local (with AWS's and Google's metadata), link-local and multicast.
    v6(0x4000, 0, 0, 3),
    v6(0x6000, 0, 0, 3),
    v6(0x8000, 0, 0, 3),
    v6(0xa000, 0, 0, 3),
    v6(0xc000, 0, 0, 3),
    v6(0xe000, 0, 0, 4),
    v6(0xf000, 0, 0, 5),
    v6(0xf800, 0, 0, 6),
    v6(0xfc00, 0, 0, 6),
];

/// The internal network that an address lies in, if it does.
pub(super) fn internal_network(address: IpAddr) -> Option<IpNet> {
    INTERNAL.into_iter().find(|it| it.contains(&address))
}

/// Whether an address is none of the internet's: of a private network, the host's own, link-local, multicast, a cloud's metadata, or
/// one that leads to an address of IPv4 by IPv6.
pub fn is_internal(address: IpAddr) -> bool {
    internal_network(plain(address)).is_some()
}

/// An address of IPv4 that is written as one of IPv6 (`::ffff:1.2.3.4`) as what it is.
pub fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_leads_inside_is_known_in_every_spelling() {
        for inside in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "168.63.129.16",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_internal(inside.parse().expect("an address")), "{inside}");
        }
    }

    #[test]
    fn hosts_of_the_internet_are_outside() {
        for outside in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "168.63.129.17",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
        ] {
            assert!(
                !is_internal(outside.parse().expect("an address")),
                "{outside}"
            );
        }
    }

    proptest! {
        #[test]
        fn an_address_of_ipv6_outside_of_the_internets_part_is_inside(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            if address.to_ipv4_mapped().is_none() && bits >> 125 != 1 {
                prop_assert!(is_internal(address.into()));
            }
        }

        #[test]
        fn an_address_of_ipv4_is_the_same_in_ipv6(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(is_internal(address.into()), is_internal(address.to_ipv6_mapped().into()));
        }
    }
}
