//! Credentials of every kind, right and wrong.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::super::jwt::tests::{Issuer, claims};
use super::*;
use crate::config;

fn hash(token: &str) -> String {
    let digest = Sha256::digest(token.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn authenticator(auth: &str, base: &Path) -> Authenticator {
    let text = format!(
        "[auth]\n{auth}\n[servers.a]\ncommand = \"a\"\n[tenants.acme]\ntokens = [\"sha256:{}\", {{ hash = \"sha256:{}\", name = \"ci\", subject = \"bot\", scopes = [\"read\"] }}, {{ hash = \"sha256:{}\", expires = \"2020-01-01T00:00:00Z\" }}]\n[tenants.globex]\ntokens = [\"sha256:{}\"]\n",
        hash("first"),
        hash("third"),
        hash("old"),
        hash("second"),
    );
    let config = config::parse(&text, "pool.toml", base);
    let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Authenticator::new(&config, Arc::default(), None)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().expect("a value"));
    }
    headers
}

async fn ask(
    authenticator: &Authenticator,
    authorization: Option<&str>,
    path_tenant: Option<&str>,
) -> Result<Principal, Failure> {
    let pairs: Vec<_> = authorization
        .map(|value| ("authorization", value))
        .into_iter()
        .collect();
    let credentials = Credentials {
        headers: &headers(&pairs),
        peer: None,
        path_tenant,
    };
    authenticator.authenticate(credentials).await
}

async fn tenant(header: Option<&str>, path: Option<&str>) -> Result<String, Reason> {
    let authenticator = authenticator("mode = \"token\"", Path::new("/"));
    let who = ask(&authenticator, header, path).await;
    who.map(|principal| principal.tenant.to_string())
        .map_err(|failure| failure.reason)
}

#[tokio::test]
async fn a_token_belongs_to_one_tenant() {
    assert_eq!(tenant(Some("Bearer first"), None).await, Ok("acme".into()));
    let other = tenant(Some("bearer  second "), None).await;
    assert_eq!(other, Ok("globex".into()));
    let named = tenant(Some("BEARER third"), Some("acme")).await;
    assert_eq!(named, Ok("acme".into()));
}

#[tokio::test]
async fn a_token_has_a_name_a_user_scopes_and_an_end() {
    let authenticator = authenticator("mode = \"token\"", Path::new("/"));
    let who = ask(&authenticator, Some("Bearer third"), None).await;
    let who = who.expect("known");
    assert_eq!(
        (who.token.as_deref(), who.subject.as_deref()),
        (Some("ci"), Some("bot"))
    );
    assert!(who.scopes.contains("read"));
    let over = ask(&authenticator, Some("Bearer old"), None).await;
    let over = over.expect_err("over");
    assert_eq!(over.reason, Reason::Unauthorized);
    assert!(over.message.contains("expired"), "{over}");
    let uses = authenticator.uses.take();
    assert_eq!(uses.len(), 1, "of the valid one");
    assert!(uses[0].1 > UNIX_EPOCH + Duration::from_secs(1_700_000_000));
}

#[tokio::test]
async fn what_is_no_known_token_is_unauthorized() {
    for header in [
        None,
        Some(""),
        Some("first"),
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic first"),
        Some("Bearer firs"),
        Some("Bearer first x"),
    ] {
        let refused = tenant(header, None).await;
        assert_eq!(refused, Err(Reason::Unauthorized), "{header:?}");
    }
}

#[tokio::test]
async fn another_tenants_path_is_as_unknown_as_none() {
    for path in ["globex", "nobody"] {
        let refused = tenant(Some("Bearer first"), Some(path)).await;
        assert_eq!(refused, Err(Reason::NotFound));
    }
    // Whoever has no credentials learns not even that.
    let refused = tenant(None, Some("globex")).await;
    assert_eq!(refused, Err(Reason::Unauthorized));
}

#[tokio::test]
async fn without_credentials_the_path_names_the_tenant() {
    let open = authenticator("mode = \"none\"", Path::new("/"));
    let tenant = async |path| {
        ask(&open, None, path)
            .await
            .map(|who| who.tenant.to_string())
    };
    assert_eq!(tenant(None).await.expect("default"), "default");
    assert_eq!(tenant(Some("acme")).await.expect("named"), "acme");
    let refused = tenant(Some("../x")).await.expect_err("no name");
    assert_eq!(refused.reason, Reason::NotFound);
}

#[tokio::test]
async fn who_lacks_a_scope_is_told_which() {
    let auth = "mode = \"token\"\nrequired_scopes = [\"read\", \"write\"]";
    let authenticator = authenticator(auth, Path::new("/"));
    let refused = ask(&authenticator, Some("Bearer third"), None).await;
    let refused = refused.expect_err("lacks one");
    assert_eq!(refused.reason, Reason::InsufficientScope);
    assert_eq!(refused.needed_scope.as_deref(), Some("read write"));
    assert!(refused.message.contains("`write`") && !refused.message.contains("`read`"));
}

#[tokio::test]
async fn a_signed_token_of_a_tenant_that_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let issuer = Issuer::new("k");
    let keys = Issuer::set(&[&issuer]).to_string();
    std::fs::write(folder.path().join("keys.json"), keys).expect("written");
    let auth = "mode = \"jwt\"\nissuer = \"https://id.example.com\"\naudience = [\"https://mcp.example.com\"]\njwks_file = \"keys.json\"\ntenant_claim = \"org.name\"";
    let authenticator = authenticator(auth, folder.path());
    let ask = async |claims: &serde_json::Value| {
        let header = format!("Bearer {}", issuer.sign(claims));
        ask(&authenticator, Some(&header), None).await
    };
    let who = ask(&claims()).await.expect("valid");
    assert_eq!(
        (who.tenant.as_str(), who.subject.as_deref()),
        ("acme", Some("anna"))
    );
    let mut stranger = claims();
    stranger["org"]["name"] = "unknown".into();
    let refused = ask(&stranger).await.expect_err("no such tenant");
    assert_eq!(refused.reason, Reason::Unauthorized);
    // A token of a tenant's list is not one of the issuer's.
    let refused = super::tests::ask(&authenticator, Some("Bearer first"), None).await;
    assert_eq!(
        refused.expect_err("not signed").reason,
        Reason::Unauthorized
    );
}

#[tokio::test]
async fn a_proxy_is_believed_by_its_address_alone() {
    let auth = "mode = \"header\"\ntrusted_proxies = [\"10.1.0.0/16\", \"2001:db8::1\"]\nsubject_header = \"X-Forwarded-User\"";
    let authenticator = authenticator(auth, Path::new("/"));
    let ask = async |peer: Option<&str>, pairs: &[(&'static str, &str)]| {
        let credentials = Credentials {
            headers: &headers(pairs),
            peer: peer.map(|peer| peer.parse().expect("an address")),
            path_tenant: None,
        };
        let who = authenticator.authenticate(credentials).await;
        who.map_err(|failure| failure.reason)
    };
    let good = [
        ("x-tenant", "acme"),
        ("x-forwarded-user", "anna"),
        ("x-scopes", "a, b c"),
    ];
    for peer in ["10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3"] {
        let who = ask(Some(peer), &good).await.expect(peer);
        assert_eq!(
            (who.tenant.as_str(), who.subject.as_deref()),
            ("acme", Some("anna"))
        );
        assert_eq!(
            who.scopes.iter().collect::<Vec<_>>(),
            ["a", "b", "c"],
            "{peer}"
        );
    }
    for peer in [None, Some("10.2.0.1"), Some("127.0.0.1")] {
        assert_eq!(
            ask(peer, &good).await,
            Err(Reason::Unauthorized),
            "{peer:?}"
        );
    }
    let bad: [&[(&'static str, &str)]; 4] = [
        &[("x-forwarded-user", "anna")],
        &[("x-tenant", "acme"), ("x-tenant", "globex")],
        &[("x-tenant", "../x")],
        &[("x-tenant", "unknown")],
    ];
    for pairs in bad {
        let refused = ask(Some("10.1.2.3"), pairs).await;
        assert_eq!(refused, Err(Reason::Unauthorized), "{pairs:?}");
    }
}

#[tokio::test]
async fn a_proxy_on_this_host_needs_a_secret() {
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let auth = format!(
        "mode = \"header\"\ntrusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nproxy_secrets = [\"sha256:{hash}\"]"
    );
    let authenticator = authenticator(&auth, Path::new("/"));
    let ask = async |peer: &str, pairs: &[(&'static str, &str)]| {
        let credentials = Credentials {
            headers: &headers(pairs),
            peer: Some(peer.parse().expect("an address")),
            path_tenant: None,
        };
        authenticator.authenticate(credentials).await.is_ok()
    };
    let acme = ("x-tenant", "acme");
    for (pairs, is_let_in) in [
        (vec![acme, ("x-proxy-secret", "secret")], true),
        (vec![acme], false),
        (vec![acme, ("x-proxy-secret", "Secret")], false),
        (vec![acme, ("x-proxy-secret", "")], false),
        (
            vec![acme, ("x-proxy-secret", "x"), ("x-proxy-secret", "secret")],
            false,
        ),
    ] {
        // Where there are secrets, every proxy needs one.
        for peer in ["127.0.0.1", "10.1.2.3"] {
            assert_eq!(ask(peer, &pairs).await, is_let_in, "{peer} {pairs:?}");
        }
        assert!(!ask("192.0.2.1", &pairs).await, "not a proxy");
    }
}
