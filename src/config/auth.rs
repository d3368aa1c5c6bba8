//! Reads `[auth]`: who callers are, and how they say so.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use jsonwebtoken::Algorithm;
use url::Url;

use super::digest::sha256;
use super::model::{Auth, AuthMode, Jwt, KeySource, ProxyHeaders};
use super::oauth::is_safe_in_transit;
use super::reader::Reader;

#[derive(Clone, Copy)]
enum Word {
    None,
    Token,
    Jwt,
    Header,
}

/// All algorithms with a key pair: with a shared secret, whoever can check a token could make one.
const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

pub(super) fn auth(reader: &mut Reader<'_, '_>, base_dir: &Path) -> Auth {
    let words = [
        ("none", Word::None),
        ("token", Word::Token),
        ("jwt", Word::Jwt),
        ("header", Word::Header),
    ];
    let doc = "How callers say who they are. \"none\": nobody does, the tenant is the path's, else `default`; only on loopback. \"token\": by a bearer token whose hash a tenant lists, or that `stdiopool token create` made. \"jwt\": by a bearer token that an authorization server signed. \"header\": by headers that a proxy of `trusted_proxies` sets.";
    let word = reader.word("mode", "none", &words, doc);
    let required_scopes = reader.texts(
        "required_scopes",
        &[],
        "Scopes that every caller needs. Who lacks one is refused with 403 and told which.",
    );
    let jwt = jwt(reader, base_dir, matches!(word, Some(Word::Jwt)));
    let headers = headers(reader, matches!(word, Some(Word::Header)));
    Auth {
        mode: match word {
            Some(Word::Token) => AuthMode::Token,
            Some(Word::Jwt) => AuthMode::Jwt(Box::new(jwt)),
            Some(Word::Header) => AuthMode::Header(Box::new(headers)),
            Some(Word::None) | None => AuthMode::None,
        },
        required_scopes: required_scopes.into_iter().collect(),
    }
}

fn jwt(reader: &mut Reader<'_, '_>, base_dir: &Path, is_used: bool) -> Jwt {
    let issuer = reader.text("issuer", None, "jwt: what `iss` of a token must be.");
    let audience = reader.texts("audience", &[], "jwt: `aud` of a token must have one of these, most often `http.public_url` or the address of a server's endpoint. A token for someone else is refused.");
    let keys = key_source(reader, base_dir, is_used);
    let algorithms = algorithms(reader);
    let tenant_claim = reader.text("tenant_claim", Some("tenant"), "jwt: the claim that names the tenant; dots lead into objects. A tenant that is not there is refused.");
    let scope_claim = reader.text(
        "scope_claim",
        Some("scope"),
        "jwt: the claim with the scopes, a text with blanks between them or a list.",
    );
    let leeway = reader.duration(
        "leeway",
        Duration::from_secs(60),
        "jwt: how far the clocks of issuer and stdiopool may be apart.",
    );
    let refresh = reader.duration("jwks_refresh", Duration::from_secs(600), "jwt: how long the issuer's keys are used before they are fetched again. If they cannot be, the old ones go on.");
    let servers = reader.texts("authorization_servers", &[], "jwt: addresses of the authorization servers that clients are sent to (RFC 9728). Empty: `issuer`.");
    for (key, missing) in [
        ("issuer", issuer.is_none()),
        ("audience", audience.is_empty()),
        ("algorithms", algorithms.is_empty()),
    ] {
        if is_used && missing {
            reader.wrong("mode", format!("`auth.mode` \"jwt\" needs `auth.{key}`: a token of anyone, for anyone, is not a credential"));
        }
    }
    let issuer = issuer.unwrap_or_default();
    Jwt {
        keys: keys.unwrap_or_else(|| KeySource::File(PathBuf::new())),
        authorization_servers: if servers.is_empty() {
            vec![issuer.clone()]
        } else {
            servers
        },
        issuer,
        audience,
        algorithms,
        tenant_claim: tenant_claim.unwrap_or_else(|| "tenant".to_owned()),
        scope_claim: scope_claim.unwrap_or_else(|| "scope".to_owned()),
        leeway,
        refresh,
    }
}

/// Reads where the issuer's keys are; `None` if nothing usable says so, which is a mistake where `jwt` is used.
fn key_source(reader: &mut Reader<'_, '_>, base_dir: &Path, is_used: bool) -> Option<KeySource> {
    let url = reader.text("jwks_url", None, "jwt: the address of the issuer's keys (JWK Set). They are fetched again after `jwks_refresh`, and when a token names a key that is not among them.");
    let file = reader.text("jwks_file", None, "jwt: a file with the issuer's keys, from pool.toml's folder, instead of `jwks_url`. Read again in the same way.");
    match (url, file) {
        (Some(url), None) => match Url::parse(&url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                if is_used && !is_safe_in_transit(&url) {
                    reader.warn("jwks_url", format!("`auth.jwks_url` ({url}) is not https: who is on the way to it can put keys of their own in place of the issuer's, and let themselves in"));
                }
                Some(KeySource::Url(url))
            }
            Ok(_) | Err(_) => {
                reader.wrong("jwks_url", format!("`auth.jwks_url` must be an address such as \"https://id.example.com/jwks\", not \"{url}\""));
                None
            }
        },
        (None, Some(file)) => Some(KeySource::File(base_dir.join(file))),
        (Some(_), Some(_)) => {
            reader.wrong(
                "jwks_file",
                "there are both `auth.jwks_url` and `auth.jwks_file`; leave one out",
            );
            None
        }
        (None, None) => {
            if is_used {
                reader.wrong("mode", "`auth.mode` \"jwt\" needs the issuer's keys: set `auth.jwks_url` or `auth.jwks_file`");
            }
            None
        }
    }
}

/// Reads the algorithms that a signature may have.
fn algorithms(reader: &mut Reader<'_, '_>) -> Vec<Algorithm> {
    let names = reader.texts("algorithms", &["RS256", "ES256"], "jwt: algorithms that a signature may have: RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA.");
    let known = names.iter().filter_map(|name| {
        let known = ALGORITHMS.iter().find(|(known, _)| known == name);
        if known.is_none() {
            let message = format!("\"{name}\" in `auth.algorithms` is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA (with the others, whoever can check a token could make one)");
            reader.wrong("algorithms", message);
        }
        known.map(|(_, algorithm)| *algorithm)
    });
    known.collect()
}

/// A network of IPv4 written as one of IPv6 (RFC 4291, 2.5.5.2) as what it is: so its members are compared.
fn canonical(network: IpNet) -> IpNet {
    const BEFORE: u8 = 96;
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let of_v4 = mapped.addr().to_ipv4_mapped();
    let within = mapped.prefix_len().checked_sub(BEFORE);
    let (Some(address), Some(prefix)) = (of_v4, within) else {
        return network;
    };
    Ipv4Net::new(address, prefix).map_or(network, IpNet::from)
}

/// Addresses and networks, of a key that lists them.
pub(super) fn networks(reader: &mut Reader<'_, '_>, key: &str, texts: &[String]) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in texts {
        let network: Option<IpNet> = text.parse().ok();
        let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
        match network.or(address.ok()) {
            Some(network) => networks.push(canonical(network)),
            None => {
                let name = reader.name(key);
                reader.wrong(key, format!("\"{text}\" in `{name}` is not an address such as \"10.0.0.7\" or a network such as \"10.0.0.0/8\""));
            }
        }
    }
    networks
}

fn headers(reader: &mut Reader<'_, '_>, is_used: bool) -> ProxyHeaders {
    let trusted = reader.texts("trusted_proxies", &[], "header: addresses of the proxies whose headers count, such as \"10.0.0.7\" or \"10.0.0.0/8\". A request from any other address is refused with 401, and so is one from this host without one of `proxy_secrets`. The proxy must remove these headers from what clients send.");
    let networks = networks(reader, "trusted_proxies", &trusted);
    if is_used && networks.is_empty() {
        reader.wrong(
            "mode",
            "`auth.mode` \"header\" needs `auth.trusted_proxies`: anyone could write these headers",
        );
    }
    for network in networks
        .iter()
        .filter(|network| is_used && network.prefix_len() == 0)
    {
        reader.warn("trusted_proxies", format!("`auth.trusted_proxies` has {network}: whoever reaches the front door can name any tenant; list the proxies' own addresses"));
    }
    reader.keep_private("proxy_secrets");
    let texts = reader.texts("proxy_secrets", &[], "header: secrets of the proxies, one of which each request needs in `secret_header`, as \"sha256:\" and the SHA-256 of the secret in hexadecimal digits (printf %s SECRET | sha256sum). Needed where a proxy is on this host, as servers are too and could say the same as it, unless `http.tls.client_ca` has clients show certificates. Two at once let a secret be replaced.");
    let mut secrets = Vec::new();
    for text in &texts {
        match sha256(text) {
            Some(hash) => secrets.push(hash),
            None => reader.wrong("proxy_secrets", "an entry of `auth.proxy_secrets` is not \"sha256:\" with 64 hexadecimal digits (make one with: printf %s SECRET | sha256sum)"),
        }
    }
    let mut name = |key, default: &'static str, doc| {
        let text = reader.text(key, Some(default), doc);
        text.and_then(|text| {
            let name = text.parse();
            if name.is_err() {
                reader.wrong(
                    key,
                    format!("`auth.{key}` must be the name of a header, not \"{text}\""),
                );
            }
            name.ok()
        })
        .unwrap_or_else(|| http::HeaderName::from_static(default))
    };
    ProxyHeaders {
        secret_header: name(
            "secret_header",
            "x-proxy-secret",
            "header: the header with the proxy's secret, where `proxy_secrets` lists some.",
        ),
        secrets,
        tenant: name(
            "tenant_header",
            "x-tenant",
            "header: the header that names the tenant.",
        ),
        subject: name(
            "subject_header",
            "x-user",
            "header: the header that names the user; may be missing.",
        ),
        email: name(
            "email_header",
            "x-email",
            "header: the header with the user's mail address; may be missing.",
        ),
        scopes: name(
            "scope_header",
            "x-scopes",
            "header: the header with the user's scopes, blanks or commas between them; may be missing.",
        ),
        trusted: networks,
    }
}
