//! What the audit log is told of acts on accounts, also when no stdiopool runs.

use crate::admin::Act;
use crate::config::Config;
use crate::daemon::assemble::audit_options;
use crate::telemetry::audit::{AuditKind, AuditRecord, append_record};

/// The record of an act; none of one that only looks.
pub(in crate::daemon) fn record_of(act: &Act) -> Option<AuditRecord> {
    (!act.only_looks()).then(|| AuditRecord {
        kind: AuditKind::Act,
        tenant: act.tenant().map(str::to_owned),
        server: act.server().map(str::to_owned),
        method: Some(act.name().to_owned()),
        object: act.object().map(str::to_owned),
        ..AuditRecord::default()
    })
}

/// Writes down an act on the state folder as a whole, such as `backup`, and the file it was about.
pub fn folder_act(file: &Config, method: &str, object: Option<&std::path::Path>, is_ok: bool) {
    let record = AuditRecord {
        kind: AuditKind::Act,
        object: object.map(|path| path.display().to_string()),
        method: Some(method.to_owned()),
        ..AuditRecord::default()
    };
    write_down(file, record, is_ok);
}

/// Writes down an act that no running stdiopool carried out, if there is to be an audit log. A
/// stdiopool that runs meanwhile writes to that file too, line by line.
pub(super) fn write_down(file: &Config, mut record: AuditRecord, is_ok: bool) {
    record.outcome = Some(if is_ok { "ok" } else { "failed" }.to_owned());
    if let Some(options) = audit_options(file)
        && let Err(error) = append_record(&options, record)
    {
        tracing::error!(%error, file = %options.file.display(), "the audit log cannot be written");
    }
}
