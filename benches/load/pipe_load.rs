//! The floor: the demo server on a raw pipe, with so many calls under way.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::process::{Process, stdiopool};
use super::report::Measured;

/// What every session begins with.
pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;

pub(crate) fn run(at_once: usize, period: Duration, bytes: usize) -> Measured {
    let mut command = stdiopool();
    command
        .arg("demo-server")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut server = Process::start(&mut command);
    let mut stdin = server.0.stdin.take().expect("piped");
    let mut stdout = BufReader::new(server.0.stdout.take().expect("piped"));
    let mut line = String::new();
    writeln!(stdin, "{INITIALIZE}").expect("it reads");
    stdout.read_line(&mut line).expect("it answers");
    let text = "x".repeat(bytes);
    let mut sent: Vec<Instant> = Vec::new();
    let mut send = |sent: &mut Vec<Instant>| {
        let id = sent.len();
        sent.push(Instant::now());
        let request = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\"arguments\":{{\"message\":\"{text}\"}}}}}}\n"
        );
        stdin.write_all(request.as_bytes()).expect("it reads");
    };
    let (cpu, since) = (server.cpu(), Instant::now());
    (0..at_once).for_each(|_| send(&mut sent));
    let mut latencies = Vec::new();
    while since.elapsed() < period {
        line.clear();
        stdout.read_line(&mut line).expect("it answers");
        // One thread serves calls in their order, so that answers come in it too.
        latencies.push(sent[latencies.len()].elapsed());
        send(&mut sent);
    }
    Measured {
        latencies,
        took: since.elapsed(),
        cpu: server.cpu() - cpu,
        memory: server.memory(),
    }
}
