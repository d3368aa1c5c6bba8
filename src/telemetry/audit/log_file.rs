//! The file of the audit log: whole lines go to it, and a new one is begun when it is full.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::AuditRecord;
use crate::escape;

/// Bytes that are gathered for one write.
const GATHERED: usize = 64 << 10;

/// How the log is written.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The file.
    pub file: PathBuf,
    /// Arguments are written too.
    pub arguments: bool,
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// Full files that are kept.
    pub keep: u32,
}

/// The file that lines go to now.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) options: AuditOptions,
    to: File,
    /// Bytes in it.
    size: u64,
    /// Whole lines on their way to it.
    gathered: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Lines that could not be written.
    unwritten: u64,
}

impl LogFile {
    pub(super) fn open(options: AuditOptions) -> io::Result<Self> {
        let to = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&options.file)?;
        let size = to.metadata()?.len();
        // After a half of a line, which a kill or a full disk may have left, a line of its own begins.
        let gathered = if ends_within_a_line(&options.file, size) {
            vec![b'\n']
        } else {
            vec![]
        };
        Ok(Self {
            options,
            to,
            size,
            gathered,
            ends: vec![],
            unwritten: 0,
        })
    }

    /// Takes a line in, to be written with others.
    ///
    /// # Errors
    /// When lines could not be written, this one or others; how many, [`LogFile::take_unwritten`] says.
    pub(super) fn put(&mut self, record: &AuditRecord) -> io::Result<()> {
        let line = serde_json::to_string(record)?;
        // The log's readers are people and tools that take lines.
        let mut line = escape::in_json(&line).into_owned().into_bytes();
        line.push(b'\n');
        let before = self.size + self.gathered.len() as u64;
        let mut written = Ok(());
        if before > 0 && before + line.len() as u64 > self.options.max_size {
            written = self.flush().and_then(|()| self.rotate());
        }
        self.gathered.extend_from_slice(&line);
        self.ends.push(self.gathered.len());
        if self.gathered.len() >= GATHERED {
            written = written.and(self.flush());
        }
        written
    }

    /// Writes the lines that were taken in.
    ///
    /// # Errors
    /// As [`LogFile::put`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.gathered);
        let ends = std::mem::take(&mut self.ends);
        let (len, outcome) = write_all(&mut self.to, &lines);
        let whole = ends.iter().filter(|end| **end <= len).count();
        self.unwritten += (ends.len() - whole) as u64;
        let before = self.size;
        self.size += len as u64;
        if outcome.is_err() {
            let end = whole.checked_sub(1).map_or(0, |last| ends[last]);
            self.cut_off(before, end, len);
        }
        outcome
    }

    /// Takes back what was written of a line that is not whole, if nobody has written behind it.
    fn cut_off(&mut self, before: u64, whole: usize, len: usize) {
        let at = before + whole as u64;
        let is_last = self.to.metadata().is_ok_and(|meta| meta.len() == self.size);
        // Else the next line begins anew behind it.
        if len > whole && is_last && self.to.set_len(at).is_ok() {
            self.size = at;
        }
    }

    /// How many lines could not be written since the last time.
    pub(super) fn take_unwritten(&mut self) -> u64 {
        std::mem::take(&mut self.unwritten)
    }

    /// Full files move up by one; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let file = &self.options.file;
        let keep = self.options.keep;
        if keep == 0 {
            std::fs::remove_file(file)?;
        }
        for n in (0..keep).rev() {
            let from = if n == 0 {
                file.clone()
            } else {
                numbered(file, n)
            };
            match std::fs::rename(from, numbered(file, n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let unwritten = self.unwritten;
        *self = Self::open(self.options.clone())?;
        self.unwritten = unwritten;
        Ok(())
    }
}

/// As [`Write::write_all`], and how many bytes were written.
fn write_all(to: &mut File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut len = 0;
    while len < bytes.len() {
        match to.write(&bytes[len..]) {
            Ok(0) => return (len, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (len, Err(error)),
        }
    }
    (len, Ok(()))
}

/// Whether the last line of a file of that size has no end. False where it cannot be read.
fn ends_within_a_line(file: &Path, size: u64) -> bool {
    let Some(at) = size.checked_sub(1) else {
        return false;
    };
    let mut last = [b'\n'];
    let read = File::open(file).and_then(|file| file.read_exact_at(&mut last, at));
    read.is_ok() && last != *b"\n"
}

/// The `n`th file before that one.
pub(super) fn numbered(file: &Path, n: u32) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}
