//! Unit tests of the benchmark's pure parts. The benchmark has no harness of its own, so that tests
//! in its files would not be run.
#![allow(
    dead_code,
    reason = "the benchmark uses what the tests of a part do not"
)]

#[path = "../../benches/load/answer.rs"]
mod answer;
#[path = "../../benches/load/bridge.rs"]
mod bridge;
#[path = "../../benches/load/latency.rs"]
mod latency;
#[path = "../../benches/load/reply.rs"]
mod reply;
#[path = "../../benches/load/report/mod.rs"]
mod report;
#[path = "../../benches/load/soak/tally.rs"]
mod tally;

mod answer_tests;
mod bridge_tests;
mod latency_tests;
mod reply_tests;
mod report_tests;
mod tally_tests;
