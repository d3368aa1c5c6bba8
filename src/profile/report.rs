//! What is proposed, as keys of pool.toml and as JSON.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::proposal::{Proposal, Reason};
use super::record::Recorded;
use super::seen::Transport;
use crate::egress::Network;

/// Most programs that are named.
const MOST_PROGRAMS: usize = 16;

/// The keys, to be put below `[servers.NAME]`, each with what it is for.
pub fn as_text(proposal: &Proposal) -> String {
    let mut text = "sandbox = \"strict\"\n".to_owned();
    for (key, paths) in [
        ("readable", &proposal.readable),
        ("writable", &proposal.writable),
    ] {
        if !paths.is_empty() {
            let items = paths.iter().map(|it| (quoted(&it.value), it.why.as_str()));
            text.push_str(&format!("{key} = {}\n", list(items)));
        }
    }
    match &proposal.network {
        Network::Off => text.push_str("network = \"off\"  # it reached no host\n"),
        Network::On => text.push_str("network = \"on\"  # see below\n"),
        Network::Allow(_) => {
            let items = proposal.hosts.iter();
            let items = items.map(|it| (format!("{:?}", it.value), it.why.as_str()));
            text.push_str(&format!("network = {{ allow = {} }}\n", list(items)));
        }
    }
    if let Some(limits) = &proposal.limits {
        for (key, Reason { value, why }) in [("memory", &limits.memory), ("disk", &limits.disk)] {
            text.push_str(&format!("limits.{key} = \"{}MiB\"  # {why}\n", value >> 20));
        }
        for (key, Reason { value, why }) in
            [("pids", &limits.pids), ("open_files", &limits.open_files)]
        {
            text.push_str(&format!("limits.{key} = {value}  # {why}\n"));
        }
    }
    let programs = proposal.programs.iter().map(|(path, count)| match count {
        1 => shown(path),
        count => format!("{} ({count} times)", shown(path)),
    });
    let mut programs: Vec<_> = programs.collect();
    if !programs.is_empty() {
        let more = programs.len().saturating_sub(MOST_PROGRAMS);
        programs.truncate(MOST_PROGRAMS);
        text.push_str(&format!("# Programs: {}", programs.join(", ")));
        if more > 0 {
            text.push_str(&format!(" and {more} more"));
        }
        text.push('\n');
    }
    for note in &proposal.notes {
        text.push_str(&format!("# Note: {}\n", one_line(note)));
    }
    text
}

/// An array with a comment behind each item.
fn list<'i>(items: impl Iterator<Item = (String, &'i str)>) -> String {
    let mut text = "[\n".to_owned();
    for (item, why) in items {
        text.push_str(&format!("  {item},  # {}\n", one_line(why)));
    }
    text.push(']');
    text
}

/// A path as a string of TOML.
fn quoted(path: &Path) -> String {
    toml::Value::from(path.to_string_lossy().into_owned()).to_string()
}

fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// Nothing in a comment ends it.
fn one_line(text: &str) -> String {
    crate::escape::for_log(text).into_owned()
}

/// Keys, reasons and what was recorded, for programs.
pub fn as_json(proposal: &Proposal, recorded: &Recorded) -> Value {
    let paths = |paths: &[Reason<PathBuf>]| -> Vec<Value> {
        let one =
            |it: &Reason<PathBuf>| json!({ "path": it.value.to_string_lossy(), "why": it.why });
        paths.iter().map(one).collect()
    };
    let network = match &proposal.network {
        Network::On => json!("on"),
        Network::Off => json!("off"),
        Network::Allow(list) => json!({ "allow": list.texts() }),
    };
    let just = |paths: &[Reason<PathBuf>]| -> Vec<String> {
        let texts = paths
            .iter()
            .map(|it| it.value.to_string_lossy().into_owned());
        texts.collect()
    };
    let limits = proposal.limits.as_ref().map(|it| {
        json!({
            "memory": it.memory.value,
            "disk": it.disk.value,
            "pids": it.pids.value,
            "open_files": it.open_files.value,
        })
    });
    let reached = recorded.reached.iter().map(|((to, by), count)| {
        let by = match by {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        json!({ "address": to.to_string(), "by": by, "count": count, "names": recorded.names.get(&to.ip()) })
    });
    let programs = proposal.programs.iter();
    let programs =
        programs.map(|(path, count)| json!({ "path": path.to_string_lossy(), "count": count }));
    json!({
        "keys": {
            "sandbox": "strict",
            "readable": just(&proposal.readable),
            "writable": just(&proposal.writable),
            "network": network,
            "limits": limits,
        },
        "reasons": {
            "readable": paths(&proposal.readable),
            "writable": paths(&proposal.writable),
            "network": proposal.hosts.iter().map(|it| json!({ "host": it.value, "why": it.why })).collect::<Vec<_>>(),
        },
        "peak": {
            "memory_bytes": recorded.peak.memory,
            "disk_bytes": recorded.peak.disk,
            "threads": recorded.peak.tasks,
            "processes": recorded.peak.processes,
            "open_files": recorded.peak.open_files,
        },
        "hosts": reached.collect::<Vec<_>>(),
        "programs": programs.collect::<Vec<_>>(),
        "refused_calls": recorded.refused,
        "left_out": recorded.left_out,
        "notes": proposal.notes,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::profile::{HostsFile, Peak, Seen, Use};

    #[test]
    fn keys_are_toml_whatever_paths_are_called() {
        let mut recorded = Recorded::default();
        let path = PathBuf::from("/srv/a \"b\"\n# x/é.txt");
        for (path, usage) in [(path.clone(), Use::Read), ("/srv/out".into(), Use::Write)] {
            recorded.take(Seen::File {
                path,
                usage,
                is_folder: false,
            });
        }
        recorded.take(Seen::Reached {
            to: "93.184.216.34:443".parse().expect("an address"),
            transport: Transport::Tcp,
        });
        recorded.take(Seen::Ran("/bin/x\ny".into()));
        recorded.peak = Peak {
            tasks: 1,
            processes: 1,
            ..Peak::default()
        };
        let proposal = Proposal::of(&recorded, &HostsFile::default(), &BTreeMap::new());
        let text = as_text(&proposal);
        let keys: toml::Table = text.parse().expect("TOML");
        assert_eq!(keys["readable"][0].as_str(), path.to_str());
        assert_eq!(keys["writable"][0].as_str(), Some("/srv/out"));
        let allow = &keys["network"]["allow"];
        assert_eq!(allow[0].as_str(), Some("93.184.216.34:443"));
        assert_eq!(keys["limits"]["pids"].as_integer(), Some(16));
        let json = as_json(&proposal, &recorded);
        assert_eq!(json["keys"]["network"]["allow"][0], "93.184.216.34:443");
    }
}
