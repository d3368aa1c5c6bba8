//! What workers cost the supervisor: memory, descriptors, time. Each test measures the whole
//! process, so they take turns, and no others are in this program.

mod worker_probe;

use std::time::{Duration, Instant};

use stdiopool::protocol::Says;
use stdiopool::worker::Options;
use tokio::sync::{Mutex, MutexGuard};
use worker_probe::*;

async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

/// A field of `/proc/self/status` in KiB.
fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("reads");
    let line = text.lines().find(|l| l.starts_with(field)).expect("field");
    let value = line.split_whitespace().nth(1).expect("value");
    value.parse().expect("a number")
}

#[tokio::test]
async fn a_line_of_50_mb_is_dropped_in_bounded_memory_and_its_id_known() {
    let _alone = alone().await;
    let (guardian, tag) = (guardian().await, tag());
    let options = Options {
        max_message: 1 << 20,
        ..Options::default()
    };
    let script = r#"
import sys
out = sys.stdout
out.write('{"jsonrpc":"2.0","result":{"id":"not this","text":"')
for _ in range(50): out.write("x" * 1000000)
out.write('"},"id":"call-7"}\n{"after":1}\n')
"#;
    // Resets the peak (proc_pid_clear_refs(5)).
    std::fs::write("/proc/self/clear_refs", "5").expect("resets");
    let before = status("VmHWM");
    let spec = spec(&tag, &["/usr/bin/python3", "-c", script]);
    let (worker, inbox) = start(&guardian, &spec, &options).await;
    let heard = inbox.next().await;
    let Heard::Oversized(news) = heard else {
        panic!("expected an oversized line, got {heard:?}");
    };
    let message = news.message.expect("a message");
    assert_eq!(message.ids, [r#""call-7""#]);
    assert!(message.says == Says::Answers && news.len > 50_000_000);
    assert_eq!(inbox.line().await, r#"{"after":1}"#);
    within(worker.wait()).await;
    let grown = status("VmHWM") - before;
    println!("peak grew by {grown} KiB");
    assert!(grown < 8 * 1024, "peak grew by {grown} KiB");
    guardian.shutdown().await;
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("lists").count()
}

#[tokio::test]
async fn two_hundred_rounds_leak_no_descriptor_and_no_process() {
    let _alone = alone().await;
    let (guardian, tag) = (guardian().await, tag());
    let spec = spec(&tag, &["cat"]);
    let mut latencies = Vec::new();
    let mut first = 0;
    let mut guardian_pid = 0;
    for round in 0..200 {
        let asked = Instant::now();
        let (worker, inbox) = start(&guardian, &spec, &Options::default()).await;
        latencies.push(asked.elapsed());
        guardian_pid = stat(stat(worker.pid(), 4), 4);
        worker.send("x".into()).expect("room");
        assert_eq!(inbox.line().await, "x");
        if round % 2 == 0 {
            worker.stop();
        } else {
            worker.kill();
        }
        inbox.exit().await;
        within(worker.wait()).await;
        if round == 9 {
            first = open_descriptors();
        }
    }
    latencies.sort();
    println!(
        "median start: {:?}, slowest: {:?}",
        latencies[100], latencies[199]
    );
    assert_eq!(open_descriptors(), first);
    let theirs = std::fs::read_dir(format!("/proc/{guardian_pid}/fd")).expect("lists");
    // stdin, stdout, stderr, the socket, the signalfd, the pipe of init processes.
    assert_eq!(theirs.count(), 7);
    assert_none(&tag);
    guardian.shutdown().await;
}

#[tokio::test]
async fn a_start_stays_quick_with_much_memory() {
    let _alone = alone().await;
    let (guardian, tag) = (guardian().await, tag());
    // Touched, so that forking this process would copy its page tables.
    let ballast = vec![1_u8; 512 << 20];
    let spec = spec(&tag, &["true"]);
    let mut latencies = Vec::new();
    for _ in 0..50 {
        let asked = Instant::now();
        let (worker, _inbox) = start(&guardian, &spec, &Options::default()).await;
        latencies.push(asked.elapsed());
        within(worker.wait()).await;
    }
    latencies.sort();
    println!(
        "median start beside {} bytes: {:?}",
        ballast.len(),
        latencies[25]
    );
    assert!(latencies[25] < Duration::from_secs(1));
    guardian.shutdown().await;
}
