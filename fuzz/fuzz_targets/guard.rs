//! Whatever stands in `Host` and `Origin`: a listener on loopback lets in only whom a URL parser would send to it.
#![no_main]

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use stdiopool::config::Origins;
use stdiopool::front::Guard;

fuzz_target!(|input: (Option<&[u8]>, Option<&[u8]>)| {
    let (host, origin) = input;
    let mut headers = HeaderMap::new();
    for (name, value) in [(HOST, host), (ORIGIN, origin)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
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
        .is_ok_and(|ip| ip.is_loopback());
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
});
