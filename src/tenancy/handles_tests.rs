use serde_json::json;

use super::*;
use crate::store::{OpenedState, StateDir};

fn config(secret: Option<&str>) -> ClientConfig {
    let values = json!({ "repo": "a/b" }).as_object().cloned();
    let secrets = secret.map(|secret| ("token".to_owned(), secret.into()));
    ClientConfig::new(values.expect("an object"), secrets.into_iter().collect())
}

fn user(tenant: &str, subject: Option<&str>) -> Principal {
    Principal::new(TenantId::new(tenant), subject.map(ToOwned::to_owned))
}

async fn create(handles: &Handles, who: &Principal, secret: Option<&str>) -> String {
    let made = handles.create(
        who,
        ServerName::new("s"),
        config(secret),
        DEFAULT_TTL,
        secret.is_none(),
    );
    made.await.expect("stored").0
}

#[tokio::test]
async fn a_handle_is_its_makers_and_its_servers() {
    let handles = Handles::in_memory(Ledger::unlimited());
    let anna = user("acme", Some("anna"));
    let handle = create(&handles, &anna, Some("s3cr3t")).await;
    assert!(handle.starts_with("cfg_") && handle.len() == 36, "{handle}");
    let server = ServerName::new("s");
    let found = handles.resolve(&handle, &anna, &server).expect("there");
    assert_eq!(found.fingerprint(), config(Some("s3cr3t")).fingerprint());
    let mut info = handles.info(&handle, &anna).expect("there");
    let named = info.servers.remove(&server).expect("its server");
    assert_eq!(
        (named.keys, named.secrets),
        (vec!["repo".into()], vec!["token".into()])
    );
    let unknown = handles.resolve("cfg_0", &anna, &server).expect_err("none");
    for other in [
        user("acme", None),
        user("acme", Some("bo")),
        user("x", Some("anna")),
    ] {
        let refused = handles.resolve(&handle, &other, &server);
        assert_eq!(refused.expect_err("another's"), unknown);
        assert_eq!(handles.info(&handle, &other), None);
        assert_eq!(handles.delete(&handle, &other).await, Ok(None));
    }
    let elsewhere = handles.resolve(&handle, &anna, &ServerName::new("t"));
    assert!(elsewhere.expect_err("other server").message.contains("`s`"));
    assert_eq!(handles.delete(&handle, &anna).await, Ok(Some(server)));
    assert_eq!(handles.info(&handle, &anna), None);
    assert!(handles.table.lock().of_tenant.is_empty());
}

#[tokio::test]
async fn a_handle_ends_with_its_time() {
    let handles = Handles::in_memory(Ledger::unlimited());
    let who = user("acme", None);
    let handle = create(&handles, &who, None).await;
    let created = handles.info(&handle, &who).expect("there").created;
    handles.expire(created + DEFAULT_TTL - Duration::from_secs(1));
    assert!(handles.info(&handle, &who).is_some());
    handles.expire(created + DEFAULT_TTL);
    assert!(handles.info(&handle, &who).is_none());
}

#[tokio::test]
async fn a_tenant_has_so_many_and_no_more() {
    let handles = Handles::in_memory(Ledger::unlimited());
    for _ in 0..MAX_OF_TENANT {
        create(&handles, &user("acme", None), None).await;
    }
    let acme = user("acme", None);
    let more = handles.create(&acme, ServerName::new("s"), config(None), DEFAULT_TTL, true);
    assert_eq!(
        more.await.expect_err("too many").reason,
        Reason::TenantLimit
    );
    create(&handles, &user("globex", None), None).await;
}

#[tokio::test]
async fn what_they_hold_is_their_tenants_and_bounded() {
    let ledger = Ledger::new(crate::held::HeldLimits {
        of_tenant: 200 << 10,
        of_all: u64::MAX,
    });
    let handles = Handles::in_memory(ledger.clone());
    let acme = user("acme", None);
    let long = |n: usize| {
        let values = json!({ "repo": format!("{n}{}", "x".repeat(50 << 10)) });
        let values = values.as_object().cloned().expect("an object");
        ClientConfig::new(values, BTreeMap::new())
    };
    let mut made = vec![];
    let refused = loop {
        let one = handles.create(
            &acme,
            ServerName::new("s"),
            long(made.len()),
            DEFAULT_TTL,
            true,
        );
        match one.await {
            Ok((handle, _)) => made.push(handle),
            Err(refused) => break refused,
        }
        assert!(made.len() < 10, "never refused");
    };
    assert_eq!((made.len(), refused.reason), (3, Reason::TenantLimit));
    assert!(
        refused.message.contains("`limits.memory_held`"),
        "{refused}"
    );
    create(&handles, &user("globex", None), None).await;
    assert!(ledger.held_of(Kind::StoredConfig) > 150 << 10);
    handles.delete(&made[0], &acme).await.expect("deleted");
    let again = handles.create(&acme, ServerName::new("s"), long(9), DEFAULT_TTL, true);
    again.await.expect("room again");
    handles.keep_tenants(|_| false);
    assert_eq!(ledger.held_of(Kind::StoredConfig), 0);
}

fn open(state: &StateDir, key: Option<&str>) -> Handles {
    let opened = OpenedState::open(state).expect("opens");
    let vault = key.map(|key| Vault::new(&key.repeat(32).into()).expect("a key"));
    let vault = Arc::new(vault.unwrap_or_else(Vault::without_key));
    let ledger = Ledger::unlimited();
    Handles::new(opened.handles, vault, opened.handle_rows, ledger)
}

fn never_written(state: &StateDir, never: &[&str]) {
    for file in ["state.db", "state.db-wal"] {
        let bytes = std::fs::read(state.path().join(file)).unwrap_or_default();
        for never in never {
            assert!(memchr::memmem::find(&bytes, never.as_bytes()).is_none());
        }
    }
}

#[tokio::test]
async fn without_a_key_what_has_secrets_ends_with_the_run_and_is_never_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = StateDir::open(dir.path()).expect("opens");
    let who = user("acme", Some("anna"));
    let handles = open(&state, None);
    let plain = create(&handles, &who, None).await;
    let secret = create(&handles, &who, Some("s3cr3t-in-memory")).await;
    let deleted = create(&handles, &who, None).await;
    assert!(
        handles
            .delete(&deleted, &who)
            .await
            .expect("deleted")
            .is_some()
    );
    let before = handles.info(&plain, &who);
    assert_eq!(
        handles.info(&secret, &who).map(|info| info.is_kept),
        Some(false)
    );

    let again = open(&state, None);
    assert!(before.is_some());
    assert_eq!(again.info(&plain, &who), before);
    assert_eq!(again.info(&secret, &who), None);
    assert_eq!(again.info(&deleted, &who), None);
    never_written(&state, &["s3cr3t-in-memory", &plain]);
}

#[tokio::test]
async fn with_a_key_what_has_secrets_is_sealed_and_opens_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = StateDir::open(dir.path()).expect("opens");
    let who = user("acme", None);
    let handles = open(&state, Some("ab"));
    let secret = create(&handles, &who, Some("s3cr3t-on-disk")).await;
    let parts = [("s", Some("s3cr3t-of-s")), ("t", None)];
    let parts = parts.map(|(name, secret)| (ServerName::new(name), config(secret)));
    let several = ClientConfig::of_servers(parts.into());
    let made = handles.create(&who, ServerName::all(), several.clone(), DEFAULT_TTL, false);
    let (several_handle, info) = made.await.expect("stored");
    assert!(info.is_kept && info.is_of_several && info.servers.len() == 2);
    never_written(&state, &["s3cr3t", "a/b", &secret]);

    // Without the key they are unknown, and not lost.
    let without = open(&state, None);
    assert_eq!(without.info(&secret, &who), None);
    let again = open(&state, Some("ab"));
    let found = again.resolve(&secret, &who, &ServerName::new("s"));
    assert_eq!(
        found.expect("there").fingerprint(),
        config(Some("s3cr3t-on-disk")).fingerprint()
    );
    assert_eq!(again.info(&several_handle, &who), Some(info));
    let offered = ["s", "t"].map(ServerName::new);
    let whole = again.resolve_for_all(&several_handle, &who, &offered);
    assert_eq!(whole.expect("there").fingerprint(), several.fingerprint());
    // One that does not open is gone for good.
    let other = open(&state, Some("cd"));
    assert_eq!(other.info(&secret, &who), None);
    // Written after it, by one writer in order.
    let _written = create(&other, &who, None).await;
    assert_eq!(open(&state, Some("ab")).info(&secret, &who), None);
}

#[tokio::test]
async fn one_for_several_servers_is_used_for_each_and_for_those_on_offer() {
    let handles = Handles::in_memory(Ledger::unlimited());
    let who = user("acme", None);
    let parts = ["s", "t"].map(|name| (ServerName::new(name), config(Some(name))));
    let several = ClientConfig::of_servers(parts.into());
    let made = handles.create(&who, ServerName::all(), several, DEFAULT_TTL, false);
    let handle = made.await.expect("stored").0;
    let of_t = handles.resolve(&handle, &who, &ServerName::new("t"));
    assert_eq!(
        of_t.expect("its part").fingerprint(),
        config(Some("t")).fingerprint()
    );
    let of_u = handles.resolve(&handle, &who, &ServerName::new("u"));
    let why = of_u.expect_err("no part").message;
    assert!(why.contains("`s`, `t`, not for `u`"), "{why}");
    let offered = ["t", "u"].map(ServerName::new);
    let whole = handles.resolve_for_all(&handle, &who, &offered);
    let whole = whole.expect("a part of it");
    assert_eq!(whole.parts().keys().collect::<Vec<_>>(), [&offered[0]]);
    let nothing = handles.resolve_for_all(&handle, &who, &offered[1..]);
    assert_eq!(nothing.expect_err("nothing").reason, Reason::ConfigInvalid);
    let of_one = create(&handles, &who, None).await;
    let whole = handles.resolve_for_all(&of_one, &who, &[ServerName::new("s")]);
    assert!(
        whole
            .expect("its server")
            .part(&ServerName::new("s"))
            .is_some()
    );
}

#[tokio::test]
async fn the_handles_of_a_tenant_go_with_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let state = StateDir::open(dir.path()).expect("opens");
    let handles = open(&state, Some("ab"));
    let (acme, globex) = (user("acme", None), user("globex", None));
    let gone = create(&handles, &acme, Some("x")).await;
    let kept = create(&handles, &globex, Some("x")).await;
    handles.keep_tenants(|tenant| tenant.as_str() != "acme");
    assert_eq!(handles.info(&gone, &acme), None);
    assert!(handles.info(&kept, &globex).is_some());
    let last = create(&handles, &globex, None).await;
    let again = open(&state, Some("ab"));
    assert_eq!(again.info(&gone, &acme), None);
    assert!(again.info(&kept, &globex).is_some() && again.info(&last, &globex).is_some());
}
