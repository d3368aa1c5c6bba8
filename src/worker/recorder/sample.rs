//! What a recorded worker holds, looked at several times a second.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::profile::{Peak, Record};
use crate::worker::Worker;
use crate::worker::disk::disk_usage;
use crate::worker::memory::{SwapWeight, footprint};

/// How long between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// Looks at a worker until nothing of it is left.
pub(in crate::worker) async fn sample(worker: Worker, folders: Vec<PathBuf>, record: Arc<Record>) {
    let gone = worker.clone();
    let ended = gone.wait();
    tokio::pin!(ended);
    loop {
        let (looked_at, folders) = (worker.clone(), folders.clone());
        let held = tokio::task::spawn_blocking(move || held(&looked_at, &folders)).await;
        // A panic was logged where it happened.
        if let Ok(held) = held {
            record.note_peak(held);
        }
        tokio::select! {
            _ = &mut ended => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn held(worker: &Worker, folders: &[PathBuf]) -> Peak {
    let pids = worker.tree();
    let memory = footprint(&pids).map_or(0, |it| it.held(SwapWeight(1.0)));
    let tasks = pids.iter().map(|pid| entries(*pid, "task").count() as u64);
    let open = pids.iter().filter_map(|pid| {
        let numbers = entries(*pid, "fd").filter_map(|name| name.parse::<u64>().ok());
        numbers.max()
    });
    Peak {
        memory,
        tasks: tasks.sum(),
        processes: pids.len() as u64,
        open_files: open.max().map_or(0, |highest| highest + 1),
        disk: disk_usage(folders, &pids),
    }
}

fn entries(pid: u32, folder: &str) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/{folder}"));
    let entries = entries.into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
