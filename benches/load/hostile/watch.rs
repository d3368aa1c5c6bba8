//! Looks at the supervisor's memory and descriptors while a flood is on, and breaks it off when it is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use stdiopool::worker::memory::resident;

use super::attacker::Handle;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Looks at memory for one at the descriptors, of which there may be thousands to list.
const LOOKS: u32 = 5;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// In bytes.
    pub(crate) most_memory: u64,
    pub(crate) most_descriptors: usize,
    /// Memory was too much, and the flood was ended.
    pub(crate) broken_off: bool,
}

/// A thread that looks; it ends with this value.
#[derive(Debug)]
pub(crate) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Watched>>,
}

impl Watch {
    /// Looks at that process until it is told to end; lets go of the flood at `too_much` bytes.
    pub(crate) fn begin(pid: u32, too_much: u64, flood: Handle) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut watched = Watched::default();
            for look in 0.. {
                let memory = resident(&[pid]);
                watched.most_memory = watched.most_memory.max(memory);
                if memory > too_much && !watched.broken_off {
                    watched.broken_off = true;
                    flood.release();
                }
                if look % LOOKS == 0 {
                    watched.most_descriptors = watched.most_descriptors.max(descriptors(pid));
                }
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            watched
        });
        Self {
            over,
            thread: Some(thread),
        }
    }

    pub(crate) fn end(mut self) -> Watched {
        self.over.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        // It has panicked where nothing can: then nothing was seen.
        thread
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Open descriptors of a process; 0 if it has gone.
pub(crate) fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}
