//! What the figures depend on.

use std::time::SystemTime;

use procfs::Current;

use super::process::stdiopool;
use super::report::{Cell, Fact, Facts};

/// The host's facts. What cannot be read is missing.
pub(crate) fn facts() -> Facts {
    let cpu = procfs::CpuInfo::current().ok();
    let model = cpu.and_then(|cpu| cpu.model_name(0).map(ToOwned::to_owned));
    let memory = procfs::Meminfo::current().ok();
    let memory = memory.map(|memory| memory.mem_total as f64 / f64::from(1 << 30));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let text = |text: Option<String>| text.map_or(Cell::Missing, Cell::Text);
    let build = if cfg!(debug_assertions) {
        "debug: its figures mean nothing"
    } else {
        "release"
    };
    let fact = |key, title, value, unit| Fact {
        key,
        title,
        value,
        unit,
    };
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    Facts(vec![
        fact("date", "date", now.to_string().into(), ""),
        fact("version", "version", text(version()), ""),
        fact("build", "build of the benchmark", build.into(), ""),
        fact("cpus", "CPUs", cpus.into(), ""),
        fact("cpu", "CPU", text(model), ""),
        fact("memory_gib", "memory", memory.into(), "GiB"),
        fact("kernel", "kernel", text(kernel()), ""),
    ])
}

/// What the binary under test says of itself.
fn version() -> Option<String> {
    let output = stdiopool().arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn kernel() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("Linux {}", release.trim()))
}
