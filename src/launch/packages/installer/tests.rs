use std::collections::BTreeMap;

use super::*;
use crate::launch::line::understand;

fn request(line: &str, is_pinned: bool) -> Request {
    let args: Vec<_> = line.split(' ').map(Some).collect();
    let run = understand("npx", &args)
        .expect("a launcher")
        .expect("understood");
    Request::new(&run, Arc::default(), is_pinned)
}

#[test]
fn only_what_may_change_is_looked_at_again_and_not_before_its_time() {
    let (hour, now) = (Duration::from_secs(3600), SystemTime::now());
    let due = |line, is_pinned, age| is_due(&request(line, is_pinned), now - age, now, hour);
    assert!(due("a", false, hour));
    assert!(due("a@^1", false, 2 * hour));
    assert!(!due("a", false, hour / 2));
    assert!(!due("a@1.2.3", false, 2 * hour));
    assert!(!due("a", true, 2 * hour));
    assert!(
        is_due(&request("a", false), now + hour, now, hour),
        "another clock"
    );
}

#[test]
fn what_configures_the_registry_tells_requests_apart_and_where_caches_are_does_not() {
    let with = |name: &str, value: &str| {
        let mut request = request("a", false);
        request.env = Arc::new(BTreeMap::from([(name.to_owned(), value.to_owned())]));
        request.id()
    };
    let plain = request("a", false).id();
    assert_eq!(with("npm_config_cache", "/x"), plain);
    assert_eq!(with("PATH", "/x"), plain);
    assert_ne!(with("NPM_CONFIG_REGISTRY", "x"), plain);
    assert_ne!(with("UV_INDEX_URL", "x"), plain);
    assert_ne!(request("b", false).id(), plain);
    assert_ne!(request("a", true).id(), plain);
}

#[tokio::test(start_paused = true)]
async fn installs_under_way_are_told_the_first_that_was_begun_at_the_front() {
    let root = tempfile::tempdir().expect("a folder");
    let installer = Installer::open(root.path(), None).expect("opens");
    let (server, since) = (ServerName::new("s"), Instant::now());
    for (n, name) in ["c", "a", "b", "d"].into_iter().enumerate() {
        let slot = installer.slot(&server, request(name, false)).expect("room");
        if name != "d" {
            slot.state.send_replace(State::Installing {
                since: since + Duration::from_secs(n as u64),
                stage: Stage::Resolving,
            });
        }
    }
    tokio::time::advance(Duration::from_secs(9)).await;
    let told = installer.under_way();
    let names: Vec<_> = told.iter().map(|it| it.package.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    assert_eq!(told[0].lasted, Duration::from_secs(9));
}
