//! Reads the audit log back, oldest line first, full files included.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use super::log_file::numbered;
use super::record::AuditRecord;

/// Longest line that is read, in bytes; arguments may be in it.
const MAX_LINE: u64 = 64 << 20;
/// Most full files that are looked for.
const MAX_FILES: u32 = 1000;

/// The lines that are wanted. A field without a value does not matter.
#[derive(Clone, Default, Debug)]
pub struct AuditFilter {
    /// Of that tenant.
    pub tenant: Option<String>,
    /// Of that server.
    pub server: Option<String>,
    /// Of that tool, prompt or resource.
    pub object: Option<String>,
    /// Of that user.
    pub subject: Option<String>,
    /// With that outcome, or that reason.
    pub outcome: Option<String>,
    /// Not before that.
    pub since: Option<SystemTime>,
}

impl AuditFilter {
    fn takes(&self, record: &AuditRecord) -> bool {
        let is =
            |wanted: &Option<String>, found: &Option<String>| wanted.is_none() || wanted == found;
        let at = || humantime::parse_rfc3339(&record.at).ok();
        is(&self.tenant, &record.tenant)
            && is(&self.server, &record.server)
            && is(&self.object, &record.object)
            && is(&self.subject, &record.subject)
            && (is(&self.outcome, &record.outcome) || is(&self.outcome, &record.reason))
            && self
                .since
                .is_none_or(|since| at().is_some_and(|at| at >= since))
    }
}

/// Hands over every line that is wanted, as read and as it stands, until `take` says false.
/// What cannot be read as a line of the log is left out; how many is returned.
///
/// # Errors
/// When a file cannot be read, or there is none.
pub fn read_audit(
    file: &Path,
    filter: &AuditFilter,
    mut take: impl FnMut(&AuditRecord, &str) -> bool,
) -> io::Result<usize> {
    let mut unreadable = 0;
    let full = (1..=MAX_FILES).take_while(|n| numbered(file, *n).exists());
    let mut files: Vec<_> = full.map(|n| numbered(file, n)).collect();
    files.reverse();
    files.push(file.to_owned());
    for file in files {
        let mut lines = BufReader::new(File::open(file)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            // One that broke off may end within a character.
            let read = std::str::from_utf8(&line).ok().and_then(|text| {
                let record = serde_json::from_str::<AuditRecord>(text);
                Some((record.ok()?, text))
            });
            match read {
                Some((record, text)) if filter.takes(&record) => {
                    if !take(&record, text.trim_end()) {
                        return Ok(unreadable);
                    }
                }
                Some(_) => {}
                None => unreadable += 1,
            }
        }
    }
    Ok(unreadable)
}
