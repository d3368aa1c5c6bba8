//! What `ps` and `logs` say of servers with `sandbox = "observe"`.

use crate::admin::ServerRow;
use crate::counted::counted;
use crate::escape;

/// Whether a server is observed, and how much "strict" would have refused; `None` for one that is not.
pub(super) fn summary(row: &ServerRow) -> Option<String> {
    let observed = row.observed.as_ref()?;
    let name = &row.name;
    if observed.is_empty() {
        return Some(format!(
            "`{name}` is observed: so far it did nothing that \"strict\" with its keys would refuse"
        ));
    }
    let mut parts = Vec::new();
    for (key, total) in [
        ("readable", observed.readable_total),
        ("writable", observed.writable_total),
    ] {
        if total > 0 {
            parts.push(format!("{} for its `{key}`", counted(total, "path")));
        }
    }
    if !observed.notes.is_empty() {
        parts.push("what no key gives".to_owned());
    }
    Some(format!(
        "`{name}` is observed: \"strict\" would have refused it {}; `stdiopool logs --server {name}` says what",
        parts.join(", ")
    ))
}

/// What "strict" would have refused a server that is observed, a line each.
pub(super) fn details(row: &ServerRow) -> Option<String> {
    let observed = row.observed.as_ref()?;
    if observed.is_empty() {
        return summary(row);
    }
    let mut text = format!(
        "`{}` is observed; since stdiopool started \"strict\" would have refused it:",
        row.name
    );
    let keys = [
        ("readable", &observed.readable, observed.readable_total),
        ("writable", &observed.writable, observed.writable_total),
    ];
    for (key, paths, total) in keys {
        for path in paths {
            text.push_str(&format!("\n  add to `{key}`: {}", escape::for_log(path)));
        }
        let more = total.saturating_sub(paths.len());
        if more > 0 {
            text.push_str(&format!(
                "\n  and {} for `{key}`",
                counted(more, "more path")
            ));
        }
    }
    for note in &observed.notes {
        text.push_str(&format!("\n  {}", escape::for_log(note)));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{ObservedServer, StartCounts};
    use crate::ids::ServerName;

    fn row(observed: Option<ObservedServer>) -> ServerRow {
        ServerRow {
            name: ServerName::new("files"),
            command: "npx".into(),
            share: "tenant".into(),
            workers: 1,
            sessions: 0,
            queued: 0,
            starts: StartCounts { ok: 1, failed: 0 },
            retry_in_seconds: None,
            circuit: Default::default(),
            circuit_tenants: vec![],
            circuit_configurations_total: 0,
            circuit_configurations: vec![],
            last_error: None,
            observed,
        }
    }

    #[test]
    fn what_strict_would_have_refused_is_said_with_the_key_that_gives_it() {
        assert_eq!(summary(&row(None)), None);
        assert_eq!(details(&row(None)), None);
        let nothing = row(Some(ObservedServer::default()));
        assert!(details(&nothing).expect("said").contains("did nothing"));
        let some = row(Some(ObservedServer {
            readable: vec!["/srv/a\n".into()],
            readable_total: 3,
            writable: vec!["/srv/out".into()],
            writable_total: 1,
            notes: vec!["it made system calls".into()],
        }));
        assert_eq!(
            summary(&some).expect("said"),
            "`files` is observed: \"strict\" would have refused it 3 paths for its `readable`, 1 path for its `writable`, what no key gives; `stdiopool logs --server files` says what"
        );
        assert_eq!(
            details(&some).expect("said"),
            "`files` is observed; since stdiopool started \"strict\" would have refused it:\n  add to `readable`: /srv/a\\n\n  and 2 more paths for `readable`\n  add to `writable`: /srv/out\n  it made system calls"
        );
    }
}
