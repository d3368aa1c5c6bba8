//! Reads `[servers.NAME.oauth]`: where tenants authorise a server upstream.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use url::{Host, Url};

use super::model::{ClientAuth, OAuth};
use super::reader::Reader;
use super::secret_source;
use super::shown::shown;

/// Parameters of the authorization request that are stdiopool's own (RFC 6749, 4.1.1; RFC 7636, 4.3).
const RESERVED: [&str; 8] = [
    "client_id",
    "code_challenge",
    "code_challenge_method",
    "redirect_uri",
    "response_mode",
    "response_type",
    "scope",
    "state",
];

pub(super) fn read(reader: &mut Reader<'_, '_>, base_dir: &Path, is_there: bool) -> Option<OAuth> {
    let authorization_url = address(
        reader,
        "authorization_url",
        "The address at the provider to which the user's browser is sent to authorise. HTTPS, unless the host is loopback; so with the others.",
    );
    let token_url = address(
        reader,
        "token_url",
        "The provider's address that gives access tokens. No redirect is followed, an answer has 64 KiB at the most and comes within 10 s.",
    );
    let revocation_url = address(
        reader,
        "revocation_url",
        "The provider's address that revokes tokens (RFC 7009). Without one, `stdiopool oauth revoke` forgets the authorisation, and the provider is not told.",
    );
    let issuer = reader.text(
        "issuer",
        None,
        "What `iss` of the provider's answer must be where it has one (RFC 9207).",
    );
    let client_id = reader.text("client_id", None, "What stdiopool is called at the provider. The redirect URI to register there is `{http.public_url}/oauth/callback`.");
    let words = [("basic", ClientAuth::Basic), ("post", ClientAuth::Post)];
    let client_auth = reader.word("client_auth", "basic", &words, "How `client_id` and `client_secret` are sent: \"basic\", in the Authorization header, or \"post\", in the form. Without a secret, `client_id` is in the form.");
    let scopes = reader.texts("scopes", &[], "The scopes that are asked for. Where the provider gives a refresh token only for one (`offline_access`), it is among them.");
    let parameters = parameters(reader);
    let default_lifetime = reader.duration("default_lifetime", Duration::from_secs(3600), "How long an access token is taken to be valid where the provider does not say and gives a refresh token. Without a refresh token, one that says nothing is taken to be valid until it is revoked.");
    let link_scope = reader.text("link_scope", None, "The scope that a caller needs to authorise the server for the tenant, or to revoke that. Without it, every user of the tenant may.");
    reader.keep_private("client_secret");
    let client_secret = reader.table("client_secret", |reader| {
        let doc = "Where the client's secret is: a variable of stdiopool's environment, a file, or the output of a command. A public client has none.";
        secret_source::source(reader, base_dir, doc)
    });
    if !is_there {
        return None;
    }
    for (key, is_missing) in [
        ("authorization_url", !reader.has("authorization_url")),
        ("token_url", !reader.has("token_url")),
        ("client_id", client_id.as_deref().is_none_or(str::is_empty)),
    ] {
        if is_missing {
            let name = reader.name(key);
            reader.wrong(key, format!("`{name}` is missing"));
        }
    }
    let is_scope = |scope: &str| {
        // RFC 6749, 3.3.
        let is_scope_char = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        !scope.is_empty() && scope.bytes().all(is_scope_char)
    };
    if let Some(scope) = scopes.iter().find(|scope| !is_scope(scope)) {
        let name = reader.name("scopes");
        reader.wrong(
            "scopes",
            format!("\"{scope}\" is no scope (one text for each, without blanks, in `{name}`)"),
        );
    }
    if let Some(scope) = link_scope.as_deref().filter(|scope| !is_scope(scope)) {
        reader.wrong(
            "link_scope",
            format!("\"{scope}\" is no scope (one, without blanks)"),
        );
    }
    Some(OAuth {
        authorization_url: authorization_url?,
        token_url: token_url?,
        revocation_url,
        issuer,
        client_id: client_id?,
        client_secret,
        client_auth: client_auth.unwrap_or(ClientAuth::Basic),
        scopes,
        parameters,
        default_lifetime,
        link_scope,
    })
}

/// An address of the provider.
fn address(reader: &mut Reader<'_, '_>, key: &'static str, doc: &'static str) -> Option<Url> {
    let text = reader.text(key, None, doc)?;
    match usable(&text) {
        Ok(url) => Some(url),
        Err(why) => {
            let name = reader.name(key);
            reader.wrong(key, format!("`{name}` {why}"));
            None
        }
    }
}

/// Whether nobody in transit can read or change what is sent: HTTPS, or a connection that does not leave the host.
pub(super) fn is_safe_in_transit(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && is_loopback)
}

/// Why an address is none of a provider; follows the name of its key.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("is no address: {0}")]
    NoAddress(url::ParseError),
    #[error("has no host")]
    NoHost,
    #[error("must begin with https://, not {0}:")]
    NotSafe(String),
    #[error("must have neither a fragment nor credentials in it")]
    TooMuch,
}

/// Tokens and codes go over TLS (RFC 6749, 3.1 and 3.2), and nowhere else.
fn usable(text: &str) -> Result<Url, Unusable> {
    let url = Url::parse(text).map_err(Unusable::NoAddress)?;
    if url.host().is_none() {
        return Err(Unusable::NoHost);
    }
    if !is_safe_in_transit(&url) {
        return Err(Unusable::NotSafe(url.scheme().to_owned()));
    }
    if url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(Unusable::TooMuch);
    }
    Ok(url)
}

fn parameters(reader: &mut Reader<'_, '_>) -> BTreeMap<String, String> {
    let schema = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let doc = "Further parameters of the authorization request, such as { audience = \"https://api.example.com\", prompt = \"consent\" }.";
    let name = reader.name("parameters");
    let Some(value) = reader.raw("parameters", schema, doc) else {
        return BTreeMap::new();
    };
    let Some(table) = value.get_ref().as_table() else {
        let given = shown(value.get_ref());
        reader.wrong(
            "parameters",
            format!("`{name}` must be a table, not {given}"),
        );
        return BTreeMap::new();
    };
    let mut parameters = BTreeMap::new();
    for (key, value) in table {
        let key = key.get_ref().to_string();
        let message = if RESERVED.contains(&key.as_str()) {
            format!("`{name}.{key}` is set by stdiopool")
        } else if let Some(text) = value.get_ref().as_str() {
            parameters.insert(key, text.to_owned());
            continue;
        } else {
            format!(
                "`{name}.{key}` must be a text, not {}",
                shown(value.get_ref())
            )
        };
        reader.notes.mistakes.push((value.span(), message));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, SecretSource, parse};

    /// The error is a text: what a user reads of it is compared.
    fn config(oauth: &str) -> Result<Config, String> {
        let text = format!(
            "[servers.hub]\ncommand = \"hub\"\nenv = {{ TOKEN = \"${{oauth.access_token}}\" }}\n[servers.hub.oauth]\n{oauth}"
        );
        let parsed = parse(&text, "pool.toml", Path::new("/etc/pool"));
        parsed.map_err(|errors| errors.to_string())
    }

    const LEAST: &str = "authorization_url = \"https://id.example.com/authorize?x=1\"\ntoken_url = \"https://id.example.com/token\"\nclient_id = \"pool\"\n";

    #[test]
    fn the_least_that_is_needed_and_what_holds_then() {
        let config = config(LEAST).expect("valid");
        let oauth = config.servers["hub"].oauth.clone().expect("there");
        assert_eq!(oauth.client_auth, ClientAuth::Basic);
        assert_eq!(oauth.client_secret, None);
        assert_eq!(oauth.default_lifetime, Duration::from_secs(3600));
        assert!(oauth.scopes.is_empty() && oauth.parameters.is_empty());
    }

    #[test]
    fn everything() {
        let more = format!(
            "{LEAST}client_secret = {{ file = \"hub.secret\" }}\nclient_auth = \"post\"\nscopes = [\"repo\", \"offline_access\"]\nparameters = {{ prompt = \"consent\" }}\nissuer = \"https://id.example.com\"\nrevocation_url = \"http://[::1]:1/revoke\"\n"
        );
        let config = config(&more).expect("valid");
        let oauth = config.servers["hub"].oauth.clone().expect("there");
        assert_eq!(oauth.client_auth, ClientAuth::Post);
        let file = SecretSource::File("/etc/pool/hub.secret".into());
        assert_eq!(oauth.client_secret, Some(file));
        assert_eq!(oauth.parameters["prompt"], "consent");
        assert!(oauth.revocation_url.is_some());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (oauth, told) in [
            (
                "client_id = \"x\"",
                "`servers.hub.oauth.token_url` is missing",
            ),
            (&LEAST.replace("https", "http"), "must begin with https://"),
            (&LEAST.replace("/token", "/token#x"), "neither a fragment"),
            (
                &LEAST.replace("/token", "/token\"\nscopes = [\"a b\"]\n#"),
                "\"a b\" is no scope",
            ),
            (
                &format!("{LEAST}parameters = {{ state = \"x\" }}"),
                "is set by stdiopool",
            ),
            (
                &format!("{LEAST}client_secret = {{ env = \"A\", file = \"b\" }}"),
                "must have one of",
            ),
            (
                &format!("{LEAST}client_secret = \"hunter22\""),
                "client_secret",
            ),
        ] {
            let error = config(oauth).expect_err(told);
            assert!(error.contains(told), "{told}: {error}");
            assert!(!error.contains("hunter22"), "{error}");
        }
    }

    #[test]
    fn a_front_door_without_a_name_is_warned_of() {
        for (public_url, is_warned) in [("", true), ("public_url = \"https://x.example\"", false)] {
            let text = format!(
                "[http]\nlisten = \"0.0.0.0:80\"\n{public_url}\n[auth]\nmode = \"token\"\n[servers.a]\ncommand = \"a\"\nenv = {{ T = \"${{oauth.access_token}}\" }}\n[servers.a.oauth]\n{LEAST}"
            );
            let config = parse(&text, "pool.toml", Path::new("/")).expect("valid");
            let found = config
                .warnings
                .iter()
                .any(|w| w.message.contains("http.public_url"));
            assert_eq!(found, is_warned, "{:?}", config.warnings);
        }
    }

    #[test]
    fn a_token_in_arguments_is_warned_of() {
        let text = format!(
            "[servers.a]\ncommand = \"a\"\nargs = [\"${{oauth.access_token}}\"]\n[servers.a.oauth]\n{LEAST}"
        );
        let is_warned = |text: &str| {
            let config = parse(text, "pool.toml", Path::new("/")).expect("valid");
            config
                .warnings
                .iter()
                .any(|w| w.message.contains("in its arguments"))
        };
        assert!(is_warned(&text));
        assert!(!is_warned(
            &text.replace("access_token}", "access_token | file}")
        ));
    }

    #[test]
    fn a_token_needs_a_provider_and_a_provider_a_use() {
        let text = "[servers.a]\ncommand = \"a\"\nargs = [\"${oauth.access_token}\"]\n";
        let error = parse(text, "pool.toml", Path::new("/")).expect_err("no provider");
        assert!(
            error.to_string().contains("needs `servers.a.oauth`"),
            "{error}"
        );
        let text = format!("[servers.a]\ncommand = \"a\"\n[servers.a.oauth]\n{LEAST}");
        let config = parse(&text, "pool.toml", Path::new("/")).expect("valid");
        let warned = config
            .warnings
            .iter()
            .any(|w| w.message.contains("has no effect"));
        assert!(warned, "{:?}", config.warnings);
    }
}
