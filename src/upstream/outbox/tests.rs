use futures_util::FutureExt;

use super::*;

fn body(outbound: Option<OutboundMessage>) -> Bytes {
    match outbound {
        Some(OutboundMessage::Message(m) | OutboundMessage::Answer { message: m, .. }) => m,
        other => panic!("expected a message, got {other:?}"),
    }
}

#[test]
fn a_full_call_stream_drops_notifications_but_never_the_answer() {
    let outbox = Outbox::new(WhenFull::DropNewest);
    outbox.expect_answer();
    for n in 0..MAX_QUEUED {
        assert_eq!(outbox.push(n.to_string().into()), Pushed::Whole);
    }
    assert_eq!(outbox.push("late".into()), Pushed::Refused);
    outbox.answer("answer".into(), false);
    for n in 0..MAX_QUEUED {
        assert_eq!(body(outbox.try_next()), n.to_string());
    }
    assert_eq!(body(outbox.try_next()), "answer");
    let end = outbox.next_of_call().now_or_never();
    assert!(matches!(end, Some(None)), "all is answered");
}

#[test]
fn a_full_session_stream_drops_the_oldest() {
    let outbox = Outbox::new(WhenFull::DropOldest);
    let half = vec![b'x'; MAX_QUEUED_BYTES / 2];
    assert_eq!(outbox.push("first".into()), Pushed::Whole);
    assert_eq!(outbox.push(half.clone().into()), Pushed::Whole);
    assert_eq!(outbox.push(half.into()), Pushed::InPlaceOfOlder);
    assert_eq!(outbox.push("last".into()), Pushed::InPlaceOfOlder);
    let mut left = vec![];
    while let Some(outbound) = outbox.try_next() {
        left.push(body(Some(outbound)));
    }
    assert_eq!(left.last().expect("not empty"), "last");
    assert!(!left.contains(&Bytes::from("first")));
}

#[test]
fn a_full_session_stream_keeps_its_answers() {
    let outbox = Outbox::new(WhenFull::DropOldest);
    outbox.expect_answer();
    outbox.answer("answer".into(), false);
    for n in 0..2 * MAX_QUEUED {
        outbox.push(n.to_string().into());
    }
    assert_eq!(body(outbox.try_next()), "answer");
    assert_ne!(body(outbox.try_next()), "0");
}

#[test]
fn an_oversized_message_is_taken_in_when_nothing_waits() {
    let outbox = Outbox::new(WhenFull::DropNewest);
    let large = Bytes::from(vec![b'x'; 2 * MAX_QUEUED_BYTES]);
    assert_eq!(outbox.push(large), Pushed::Whole);
}

fn account(limit: u64) -> Account {
    let limits = held::HeldLimits {
        of_tenant: limit,
        of_all: limit,
    };
    held::Ledger::new(limits).account(&crate::ids::TenantId::new("t"))
}

#[test]
fn what_waits_is_charged_until_it_is_taken() {
    let account = account(1 << 20);
    let outbox = Outbox::of(WhenFull::DropNewest, &account);
    outbox.expect_answer();
    outbox.push("short".into());
    outbox.push(vec![b'x'; 10_000].into());
    outbox.answer(vec![b'y'; 20_000].into(), false);
    let entries = 3 * ENTRY as u64;
    assert_eq!(account.held(), 30_005 + entries);
    outbox.try_next().expect("short");
    outbox.try_next().expect("long");
    let answer = body(outbox.try_next());
    assert_eq!(account.held(), 20_000, "its bytes carry it");
    drop(answer);
    assert_eq!(account.held(), 0);
    outbox.push("left".into());
    drop(outbox);
    assert_eq!(account.held(), 0);
}

#[test]
fn an_answer_without_room_becomes_a_failure_that_says_so() {
    let account = account(10_000);
    let outbox = Outbox::of(WhenFull::DropNewest, &account);
    outbox.expect_answer();
    let long = format!(r#"{{"jsonrpc":"2.0","id":"a","result":"{:x>10000}"}}"#, "");
    outbox.answer(long.into(), false);
    let Some(OutboundMessage::Failed { id, failure }) = outbox.try_next() else {
        panic!("not failed")
    };
    assert_eq!((&*id, failure.reason.as_str()), ("\"a\"", "tenant_limit"));
    outbox.expect_answer();
    outbox.answer("short".into(), false);
    assert_eq!(body(outbox.try_next()), "short");
}

#[test]
fn a_tenant_at_its_limit_loses_its_oldest_notifications() {
    let account = account(20 * ENTRY as u64);
    let outbox = Outbox::of(WhenFull::DropOldest, &account);
    for n in 0..9 {
        assert_eq!(outbox.push(n.to_string().into()), Pushed::Whole);
    }
    assert_eq!(outbox.push("last".into()), Pushed::InPlaceOfOlder);
    assert_eq!(body(outbox.try_next()), "1");
    let of_call = Outbox::of(WhenFull::DropNewest, &account);
    of_call.push("a".into());
    let refused = of_call.push("b".into());
    assert!(matches!(refused, Pushed::NoRoom(_)), "{refused:?}");
    assert!(refused.unasked().contains("`limits.memory_held`"));
}

#[test]
fn what_waits_is_not_told_twice() {
    let outbox = Outbox::new(WhenFull::DropOldest);
    let changed = Topic::of("changed", None);
    let other = Topic::of("changed", Some("uri"));
    let push = |text: &'static str, topic| outbox.push_held(text.into(), Some(topic));
    assert_eq!(push("first", changed), Pushed::Whole);
    assert_eq!(push("again", changed), Pushed::Known);
    assert_eq!(push("other", other), Pushed::Whole);
    assert_eq!(body(outbox.try_next()), "first");
    assert_eq!(push("later", changed), Pushed::Whole);
    assert_eq!(body(outbox.try_next()), "other");
    assert_eq!(body(outbox.try_next()), "later");
    assert!(outbox.is_empty() && outbox.inner.lock().topics.is_empty());
}

#[tokio::test]
async fn each_message_goes_to_the_latest_reader_alone() {
    let outbox = Arc::new(Outbox::new(WhenFull::DropOldest));
    let old = outbox.read(None);
    let mut waiting = Box::pin(old.next());
    assert!((&mut waiting).now_or_never().is_none());
    let new = outbox.read(None);
    outbox.push("for the new one".into());
    assert!((&mut waiting).now_or_never().is_none());
    assert!(old.try_next().is_none());
    assert_eq!(body(new.next().await), "for the new one");
    assert!(new.next().now_or_never().is_none());
    // Once that is gone, the old one is the latest again, and is woken.
    let waited = tokio::spawn({
        let outbox = Arc::clone(&outbox);
        async move {
            let mut text = None;
            let reader = outbox.read(None);
            drop(new);
            drop(reader);
            outbox.push("for the old one".into());
            text.get_or_insert("pushed");
        }
    });
    assert_eq!(body(waiting.await), "for the old one");
    waited.await.expect("no panic");
    assert_eq!(outbox.readers(), 1);
}

#[tokio::test]
async fn a_reader_that_goes_on_with_a_stream_ends_the_one_before() {
    let outbox = Arc::new(Outbox::new(WhenFull::DropOldest));
    let broken = outbox.read(None);
    let beside = outbox.read(None);
    let waiting = broken.next();
    let resumed = outbox.read(Some(broken.stream()));
    assert!(waiting.await.is_none());
    assert_eq!(resumed.stream(), broken.stream());
    assert!(beside.next().now_or_never().is_none(), "goes on");
    let more: Vec<_> = (0..MAX_READERS).map(|_| outbox.read(None)).collect();
    assert_eq!(outbox.readers(), MAX_READERS);
    assert!(beside.next().await.is_none(), "one of too many");
    outbox.push("last words".into());
    outbox.close();
    assert!(more[0].next().await.is_none());
    let latest = more.last().expect("some");
    assert_eq!(body(latest.next().await), "last words");
    assert!(latest.next().await.is_none());
}
