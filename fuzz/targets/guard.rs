//! Whatever stands in `Host` and `Origin`: a listener on loopback lets in only whom a URL parser would send to it.
use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use stdiopool::config::Origins;
use stdiopool::front::Guard;

use super::input::first_line;

pub(super) fn run(input: &[u8]) {
    // The first line is the host, the second the origin; `-` for none.
    let (host, rest) = first_line(input);
    let (origin, _) = first_line(rest);
    let mut headers = HeaderMap::new();
    for (name, value) in [(HOST, host), (ORIGIN, origin)] {
        if value != b"-"
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            headers.insert(name, value);
        }
    }
    let local = "127.0.0.1:8080".parse().expect("an address");
    let guard = Guard::new(local, Some("https://mcp.example.com"));
    let listed = Origins::parse(&["https://app.example.com"]).expect("an origin");
    if guard.check(&headers, &listed).is_err() {
        return;
    }
    let host = headers[HOST]
        .to_str()
        .expect("a host that is let in is text");
    // Others are refused before they come here.
    let Ok(authority) = host.parse::<Authority>() else {
        return;
    };
    if authority.as_str().contains('@') {
        panic!("userinfo in `{host}` is let in");
    }
    let name = authority.host();
    let is_loopback = name
        .trim_matches(['[', ']'])
        .parse::<IpAddr>()
        .is_ok_and(|ip| ip.to_canonical().is_loopback());
    assert!(
        is_loopback
            || name.eq_ignore_ascii_case("localhost")
            || name.eq_ignore_ascii_case("mcp.example.com"),
        "`{host}` is let in"
    );
    if let Some(origin) = headers.get(ORIGIN) {
        let origin = origin.to_str().expect("an origin that is let in is text");
        let origin = origin.to_ascii_lowercase();
        let is_own = ["http://", "https://"].iter().any(|scheme| {
            origin
                .strip_prefix(scheme)
                .is_some_and(|own| own.eq_ignore_ascii_case(host))
        });
        assert!(
            is_own || origin == "https://app.example.com",
            "`{origin}` is let in"
        );
    }
}
