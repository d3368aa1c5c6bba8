//! The narrowest keys that would have sufficed for what was recorded, each with what it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::folders::{self, Covering};
use super::hosts::{HostsFile, hosts};
use super::record::{FileUse, Recorded};
use super::seen::Use;
use crate::counted::counted;
use crate::egress::Network;

const MIB: u64 = 1 << 20;

/// A value, and what it is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason<T> {
    /// The value.
    pub value: T,
    /// The purpose of the value, in a few words.
    pub why: String,
}

/// Values of `limits`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProposedLimits {
    /// `memory`, in bytes.
    pub memory: Reason<u64>,
    /// `pids`.
    pub pids: Reason<u64>,
    /// `open_files`.
    pub open_files: Reason<u64>,
    /// `disk`, in bytes.
    pub disk: Reason<u64>,
}

/// Keys of a server, beside `sandbox = "strict"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// `readable`
    pub readable: Vec<Reason<PathBuf>>,
    /// `writable`
    pub writable: Vec<Reason<PathBuf>>,
    /// `network`
    pub network: Network,
    /// What each host of its list is for, or why there is none.
    pub hosts: Vec<Reason<String>>,
    /// `limits`; none where nothing was measured.
    pub limits: Option<ProposedLimits>,
    /// Programs that were executed, and how often.
    pub programs: Vec<(PathBuf, u64)>,
    /// What is to be known beside, a sentence each.
    pub notes: Vec<String>,
}

impl Proposal {
    /// What is proposed from a record. `file` has names of the host's own table, `looked_up` those whose answers were not seen.
    pub fn of(
        recorded: &Recorded,
        file: &HostsFile,
        looked_up: &BTreeMap<IpAddr, BTreeSet<String>>,
    ) -> Self {
        let folders = folders::covering(&recorded.files);
        let hosts = hosts(recorded, file, looked_up);
        let mut notes = hosts.notes;
        for path in &folders.impossible {
            notes.push(format!(
                "it wrote to {} itself, which cannot be listed: with \"strict\" it does not",
                path.display()
            ));
        }
        if !folders.too_broad.is_empty() {
            let all = folders.too_broad.iter();
            let all = all.map(|path| path.display().to_string()).collect();
            notes.push(format!(
                "it listed {}, which is not proposed, since all that is in there would go with it: with \"strict\" it sees there what else it may read; programs go on as a rule, try it",
                listed(all)
            ));
        }
        notes.extend(notes_of(recorded));
        let with_reason = |covering: Vec<Covering>| {
            let with = covering.into_iter().map(|it| Reason {
                why: why(&it),
                value: it.path,
            });
            with.collect()
        };
        Self {
            readable: with_reason(folders.readable),
            writable: with_reason(folders.writable),
            network: hosts.network,
            hosts: hosts
                .rules
                .into_iter()
                .map(|(value, why)| Reason { value, why })
                .collect(),
            limits: limits(recorded),
            programs: recorded
                .programs
                .iter()
                .map(|(path, count)| (path.clone(), *count))
                .collect(),
            notes,
        }
    }
}

/// What a listed path is for.
fn why(covering: &Covering) -> String {
    let of = |usage: Use| {
        covering
            .uses
            .iter()
            .filter(move |(_, it)| it.usage == usage)
    };
    let example = |uses: &mut dyn Iterator<Item = &(PathBuf, FileUse)>| {
        let first = uses.map(|(path, _)| path.as_path());
        let mut others = first.filter(|path| *path != covering.path);
        let shown = |path: &Path| format!(", such as {}", path.display());
        others.next().map(shown).unwrap_or_default()
    };
    let is_itself = covering.uses.len() == 1 && covering.uses[0].0 == covering.path;
    let mut parts = Vec::new();
    let written = of(Use::Write).count();
    if written > 0 {
        let such = example(&mut of(Use::Write));
        parts.push(match is_itself {
            true => "written in".to_owned(),
            false => format!("written in {}{such}", counted(written, "folder")),
        });
    }
    let listed = of(Use::List).count();
    if listed > 0 {
        parts.push(match is_itself {
            true => "listed".to_owned(),
            false => format!("{} listed", counted(listed, "folder")),
        });
    }
    let read = of(Use::Read).count();
    if read > 0 {
        let such = example(&mut of(Use::Read));
        parts.push(match is_itself {
            true => "read".to_owned(),
            false => format!("{} read{such}", counted(read, "file")),
        });
    }
    let looked = of(Use::Look).filter(|(_, it)| !it.is_folder).count();
    if looked > 0 && parts.is_empty() {
        parts.push("looked for".to_owned());
    }
    parts.join(", ")
}

/// The first of them, and how many more there are.
fn listed(all: Vec<String>) -> String {
    const MOST: usize = 6;
    let more = all.len().saturating_sub(MOST);
    let mut text = all[..all.len().min(MOST)].join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// What is to be known of a record beside its keys.
fn notes_of(recorded: &Recorded) -> Vec<String> {
    let mut notes = Vec::new();
    let denied = |usage: fn(Use) -> bool| {
        let all = recorded.denied.iter().filter(|(_, it)| usage(**it));
        all.map(|(path, _)| path.display().to_string())
            .collect::<Vec<_>>()
    };
    let (written, read) = (denied(|it| it == Use::Write), denied(|it| it != Use::Write));
    if !written.is_empty() {
        notes.push(format!(
            "permissions kept it from writing in {}: where it is to write there, `writable` needs the folder, and the tenant's user the permission",
            listed(written)
        ));
    }
    if !read.is_empty() {
        notes.push(format!(
            "permissions kept it from reading {}: where it is to read that, `readable` needs the path, and the tenant's user the permission",
            listed(read)
        ));
    }
    if !recorded.refused.is_empty() {
        let all = recorded.refused.iter();
        let all = all
            .map(|(call, count)| format!("{call} ({count}x)"))
            .collect();
        notes.push(format!(
            "it made system calls that \"strict\" refuses: {}; programs go on without them as a rule (of browsers: `--no-sandbox`), try it",
            listed(all)
        ));
    }
    if !recorded.unavailable.is_empty() {
        let all = recorded.unavailable.keys().cloned().collect();
        notes.push(format!(
            "it used what a strict server has not: {}; programs go on without as a rule, try it",
            listed(all)
        ));
    }
    if recorded.unread > 0 {
        notes.push(format!(
            "{} could not be read, as of processes that had ended: what they were for is not known",
            counted(
                usize::try_from(recorded.unread).unwrap_or(usize::MAX),
                "system call"
            )
        ));
    }
    if recorded.left_out > 0 {
        notes.push(format!(
            "{} had no room in the record: the lists are not whole",
            counted(
                usize::try_from(recorded.left_out).unwrap_or(usize::MAX),
                "act"
            )
        ));
    }
    notes
}

/// Limits with room above what was measured: half as much again, in round numbers, of memory twice that where other processes were started.
fn limits(recorded: &Recorded) -> Option<ProposedLimits> {
    let peak = recorded.peak;
    if peak.tasks == 0 {
        return None;
    }
    let above = |value: u64, step: u64, least: u64| {
        let more = value.saturating_add(value / 2);
        more.div_ceil(step).saturating_mul(step).max(least)
    };
    let mib = |bytes: u64| bytes.div_ceil(MIB);
    Some(ProposedLimits {
        memory: Reason {
            // What a process holds counts twice for the moment in which it starts another one (vfork(2)).
            value: match peak.processes {
                1 => above(peak.memory, 16 * MIB, 64 * MIB),
                _ => above(peak.memory.saturating_mul(2), 16 * MIB, 64 * MIB),
            },
            why: format!("{} MiB at the most", mib(peak.memory)),
        },
        pids: Reason {
            value: above(peak.tasks, 8, 16),
            why: format!(
                "{} of {} at the most",
                counted(usize::try_from(peak.tasks).unwrap_or(usize::MAX), "thread"),
                match peak.processes {
                    1 => "one process".to_owned(),
                    count => format!("{count} processes"),
                }
            ),
        },
        open_files: Reason {
            value: above(peak.open_files, 64, 64),
            why: format!("{} at the most of one process", peak.open_files),
        },
        disk: Reason {
            value: above(peak.disk, 16 * MIB, 64 * MIB),
            why: format!("{} MiB in its own folders", mib(peak.disk)),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Peak, Seen};

    #[test]
    fn limits_have_room_and_are_none_where_nothing_was_measured() {
        let mut recorded = Recorded::default();
        assert_eq!(limits(&recorded), None);
        recorded.peak = Peak {
            memory: 61 * MIB,
            tasks: 12,
            processes: 1,
            open_files: 30,
            disk: 0,
        };
        let limits = limits(&recorded).expect("measured");
        assert_eq!(limits.memory.value, 96 * MIB);
        assert_eq!((limits.pids.value, limits.open_files.value), (24, 64));
        assert_eq!(limits.disk.value, 64 * MIB);
        assert_eq!(limits.pids.why, "12 threads of one process at the most");
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let mut recorded = Recorded::default();
        recorded.take(Seen::Denied {
            path: "/srv/out".into(),
            usage: Use::Write,
        });
        recorded.take(Seen::Refused("mount"));
        recorded.take(Seen::Unavailable("/dev/kvm".to_owned()));
        recorded.left_out = 3;
        let proposal = Proposal::of(&recorded, &HostsFile::default(), &BTreeMap::new());
        let notes = proposal.notes.join("\n");
        for part in ["/srv/out", "mount (1x)", "/dev/kvm", "3 acts had no room"] {
            assert!(notes.contains(part), "{notes}");
        }
    }
}
