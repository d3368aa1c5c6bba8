//! Writes the lines, and begins a new file when one is full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::digest::Digester;
use super::log_file::{AuditOptions, LogFile};
use super::record::{AuditKind, AuditRecord};
use crate::held::{Account, Charge, Kind};

/// Lines that may wait for the disk. More are lost, counted and said.
const MAX_WAITING: usize = 16_384;
/// Bytes that may wait for the disk: a line can hold all arguments of a call. More are lost, counted and said.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// How long the log is silent, after it said that the audit log cannot be written.
const SAID_FOR: Duration = Duration::from_secs(60);

/// A line that waits for the disk.
#[derive(Debug)]
struct QueuedLine {
    record: AuditRecord,
    weight: usize,
    /// Given back when it is written.
    _charge: Option<Charge>,
    bytes: Arc<AtomicUsize>,
}

impl Drop for QueuedLine {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

/// The audit log. Dropping it writes what waits.
#[derive(Debug)]
pub struct Audit {
    lines: Option<SyncSender<QueuedLine>>,
    waiting_bytes: Arc<AtomicUsize>,
    lost: Arc<AtomicU64>,
    lost_ever: Arc<AtomicU64>,
    /// Makes digests of arguments.
    pub digester: Digester,
    /// Whether arguments are wanted.
    pub arguments: bool,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Audit {
    /// Opens the log, or begins one.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(options: AuditOptions, digester: Digester) -> io::Result<Self> {
        let arguments = options.arguments;
        let mut file = LogFile::open(options)?;
        let (lines, waiting) = sync_channel(MAX_WAITING);
        let lost = Arc::<AtomicU64>::default();
        let lost_ever = Arc::<AtomicU64>::default();
        let (missed, missed_ever) = (Arc::clone(&lost), Arc::clone(&lost_ever));
        let writer = std::thread::Builder::new()
            .name("audit writer".to_owned())
            .spawn(move || write(&mut file, &waiting, &missed, &missed_ever))?;
        Ok(Self {
            lines: Some(lines),
            waiting_bytes: Arc::default(),
            lost,
            lost_ever,
            digester,
            arguments,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Writes a line some time soon. Never waits.
    pub fn record(&self, record: AuditRecord) {
        self.put(record, None);
    }

    /// Writes a line about a caller of that tenant some time soon, which is charged until then: it is not lost
    /// while there is room, but counts against what the tenant asks next. Never waits.
    pub fn record_of(&self, account: &Account, record: AuditRecord) {
        self.put(record, Some(account));
    }

    fn put(&self, mut record: AuditRecord, account: Option<&Account>) {
        record.at = now();
        let Some(lines) = &self.lines else { return };
        let weight = record.weight();
        let before = self.waiting_bytes.fetch_add(weight, Ordering::Relaxed);
        let waiting = QueuedLine {
            _charge: account.map(|account| account.charge_anyway(Kind::Audit, weight)),
            record,
            weight,
            bytes: Arc::clone(&self.waiting_bytes),
        };
        // One that is alone is written whatever its length.
        let has_room = before == 0 || before.saturating_add(weight) <= MAX_WAITING_BYTES;
        let taken = has_room && lines.try_send(waiting).is_ok();
        if !taken {
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
            // Said once for each gap, when it is closed, by the writer.
            if self.lost.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::error!(
                    "lines of the audit log are lost: the disk does not keep up ({MAX_WAITING} lines or {MAX_WAITING_BYTES} bytes wait)"
                );
            }
        }
    }

    /// Lines lost since the start.
    pub fn lost(&self) -> u64 {
        self.lost_ever.load(Ordering::Relaxed)
    }
}

/// Writes one line and is done with the file: for a process that does one thing.
///
/// # Errors
/// When the file cannot be written.
pub fn append_record(options: &AuditOptions, mut record: AuditRecord) -> io::Result<()> {
    record.at = now();
    let mut file = LogFile::open(options.clone())?;
    // The file is not rolled over here, but by whoever writes much: a stdiopool that runs may hold this one.
    file.options.max_size = u64::MAX;
    file.put(&record)?;
    file.flush()
}

impl Drop for Audit {
    fn drop(&mut self) {
        // The writer ends when it has written what waits.
        drop(self.lines.take());
        if let Some(writer) = self.writer.lock().take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the audit log has panicked");
        }
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

fn write(
    file: &mut LogFile,
    waiting: &Receiver<QueuedLine>,
    lost: &AtomicU64,
    lost_ever: &AtomicU64,
) {
    let mut said: Option<Instant> = None;
    while let Ok(record) = waiting.recv() {
        let mut next = Some(record);
        let mut written = Ok(());
        while let Some(record) = next {
            written = written.and(file.put(&record.record));
            // Whatever waits goes to the disk in one go.
            next = waiting.try_recv().ok();
        }
        written = written.and(file.flush());
        let unwritten = file.take_unwritten();
        lost_ever.fetch_add(unwritten, Ordering::Relaxed);
        let missed = lost.swap(0, Ordering::Relaxed) + unwritten;
        if missed > 0 {
            let told = AuditRecord {
                at: now(),
                kind: AuditKind::Lost,
                lost: Some(missed),
                ..AuditRecord::default()
            };
            let told = file.put(&told).and_then(|()| file.flush());
            if told.is_err() {
                // The line that says so is lost too, and is said with the next that is written.
                file.take_unwritten();
                lost.fetch_add(missed, Ordering::Relaxed);
            }
            written = written.and(told);
        }
        let Err(error) = written else { continue };
        // A disk that is full is said now and then, not with each line.
        if said.is_none_or(|at| at.elapsed() >= SAID_FOR) {
            said = Some(Instant::now());
            tracing::error!(%error, file = %file.options.file.display(), "the audit log cannot be written");
        }
        // The next line tries again with a new handle.
        if let Ok(again) = LogFile::open(file.options.clone()) {
            *file = again;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::Path;

    use secrecy::SecretBox;

    use super::super::read::{AuditFilter, read_audit};
    use super::*;

    fn audit(file: &Path, max_size: u64, keep: u32) -> Audit {
        let options = AuditOptions {
            file: file.to_owned(),
            arguments: false,
            max_size,
            keep,
        };
        let digester = Digester::new(SecretBox::new(Box::new([1; 32])));
        Audit::open(options, digester).expect("opens")
    }

    fn call(n: usize) -> AuditRecord {
        AuditRecord {
            tenant: Some(format!("t{}", n % 2)),
            object: Some(format!("tool{n}")),
            ..AuditRecord::default()
        }
    }

    fn tools(file: &Path, filter: &AuditFilter) -> Vec<String> {
        let mut found = vec![];
        let read = read_audit(file, filter, |record, _| {
            found.extend(record.object.clone());
            true
        });
        read.expect("reads");
        found
    }

    #[test]
    fn files_are_bounded_and_read_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.jsonl");
        for part in 0..2 {
            // Goes on where the last one ended.
            let audit = audit(&file, 400, 2);
            for n in 0..10 {
                audit.record(call(part * 10 + n));
            }
        }
        let mut names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string())
            .collect::<Result<_, _>>()
            .expect("UTF-8");
        names.sort();
        assert_eq!(names, ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]);
        for name in names {
            let len = std::fs::metadata(folder.path().join(&name)).expect("there");
            assert!(len.len() <= 400, "{name}");
        }
        let all = tools(&file, &AuditFilter::default());
        let expected: Vec<_> = (20 - all.len()..20).map(|n| format!("tool{n}")).collect();
        assert!(all.len() >= 6);
        assert_eq!(all, expected);
        let of_tenant = AuditFilter {
            tenant: Some("t1".to_owned()),
            ..AuditFilter::default()
        };
        let of_tenant = tools(&file, &of_tenant);
        assert!(
            of_tenant
                .iter()
                .all(|tool| tool.ends_with(['1', '3', '5', '7', '9']))
        );
        assert!(!of_tenant.is_empty());
    }

    #[test]
    fn long_lines_are_bounded_in_bytes_and_charged_until_they_are_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.jsonl");
        let audit = audit(&file, 1 << 40, 1);
        let account = crate::held::Ledger::unlimited().account(&crate::ids::TenantId::new("t"));
        let long = || AuditRecord {
            arguments: Some("x".repeat(8 << 20)),
            ..AuditRecord::default()
        };
        let mut most = 0;
        for _ in 0..20 {
            audit.record_of(&account, long());
            most = most.max(account.held());
        }
        let most = usize::try_from(most).expect("small");
        assert!((8 << 20..=MAX_WAITING_BYTES).contains(&most), "{most}");
        drop(audit);
        assert_eq!(account.held(), 0);
    }

    #[test]
    fn a_line_that_broke_off_does_not_take_the_next_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.jsonl");
        audit(&file, 1 << 20, 1).record(call(1));
        // As a kill leaves it: in the middle of a character.
        let half = b"{\"at\":\"now\",\"object\":\"\xf0\x9f";
        let mut broken = OpenOptions::new().append(true).open(&file).expect("opens");
        broken.write_all(half).expect("written");
        for n in 2..4 {
            audit(&file, 1 << 20, 1).record(call(n));
        }
        let mut found = vec![];
        let unreadable = read_audit(&file, &AuditFilter::default(), |record, _| {
            found.extend(record.object.clone());
            true
        });
        assert_eq!(unreadable.expect("reads"), 1);
        assert_eq!(found, ["tool1", "tool2", "tool3"]);
    }

    #[test]
    fn what_is_lost_is_counted_where_it_is_missed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("audit.jsonl");
        let audit = audit(&file, 1 << 30, 1);
        // Faster than any disk: the queue runs full sooner or later.
        let mut sent = 0;
        while audit.lost() == 0 && sent < 5_000_000 {
            audit.record(call(sent));
            sent += 1;
        }
        let lost = audit.lost();
        assert!(lost > 0, "{sent} lines never filled the queue");
        audit.record(call(sent));
        let lost = lost.max(audit.lost());
        drop(audit);
        let (mut calls, mut told) = (0, 0);
        let read = read_audit(&file, &AuditFilter::default(), |record, _| {
            match record.kind {
                AuditKind::Lost => told += record.lost.unwrap_or(0),
                _ => calls += 1,
            }
            true
        });
        read.expect("reads");
        assert_eq!((calls + told, told), (sent as u64 + 1, lost));
    }
}
