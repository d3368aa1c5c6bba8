//! Names of hosts in requests: of the header `Host`, or of a target's authority.

use std::net::{IpAddr, Ipv6Addr};

/// The host of `host[:port]`. An address of IPv6 keeps its brackets.
pub fn host_name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a host without a port is `localhost` or a loopback address.
pub fn is_loopback_name(name: &str) -> bool {
    // The usual ones, before anything is parsed.
    if name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = match name.strip_prefix('[') {
        // Of addresses only those of IPv6 stand in brackets (RFC 3986, section 3.2.2).
        Some(rest) => rest
            .strip_suffix(']')
            .and_then(|address| address.parse::<Ipv6Addr>().ok())
            .map(IpAddr::V6),
        None => name.parse().ok(),
    };
    address.is_some_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_are_told_from_foreign_ones() {
        for host in [
            "localhost",
            "LOCALHOST:9090",
            "127.0.0.1",
            "127.0.0.1:9090",
            "127.8.8.8:1",
            "[::1]",
            "[::1]:9090",
            "[::ffff:127.0.0.1]:9090",
        ] {
            assert!(is_loopback_name(host_name(host)), "{host}");
        }
        for host in [
            "",
            ":9090",
            "evil.example",
            "localhost.evil.example:9090",
            "127.0.0.1.evil.example",
            "127.0.0.1:x",
            "10.0.0.1:9090",
            "[::2]",
            "[127.0.0.1]",
            "[::1",
            "::1]",
            "0.0.0.0",
            "evil@localhost",
        ] {
            assert!(!is_loopback_name(host_name(host)), "{host}");
        }
    }
}
