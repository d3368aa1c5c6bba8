//! What a server was seen to do, in bounded room.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::seen::{Seen, Transport, Use};
use crate::ids::ServerName;

/// Most entries of each kind.
const MAX_ENTRIES: usize = 4096;
/// Most names that one address is known by.
const MAX_NAMES: usize = 8;
/// Longest path and name, in bytes: PATH_MAX of Linux.
const MAX_TEXT: usize = 4096;

/// What was done to a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileUse {
    /// The most that was done.
    pub usage: Use,
    /// Whether the path is a folder.
    pub is_folder: bool,
    /// How often something was done.
    pub count: u64,
}

/// The most that a server held at one time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Peak {
    /// Bytes of memory of a worker with all its processes.
    pub memory: u64,
    /// Processes and threads of a worker.
    pub tasks: u64,
    /// Processes of a worker.
    pub processes: u64,
    /// The highest number of a descriptor of one process, and one more.
    pub open_files: u64,
    /// Bytes of a worker's own folders on the disk.
    pub disk: u64,
}

impl Peak {
    /// The higher of both, of each number.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            tasks: self.tasks.max(other.tasks),
            processes: self.processes.max(other.processes),
            open_files: self.open_files.max(other.open_files),
            disk: self.disk.max(other.disk),
        }
    }
}

/// What was seen, by kind.
#[derive(Clone, Default, Debug)]
pub struct Recorded {
    /// Files and folders that a strict server would lack. Of [`Use::Write`], the folder that has to be writable.
    pub files: BTreeMap<PathBuf, FileUse>,
    /// What permissions refused.
    pub denied: BTreeMap<PathBuf, Use>,
    /// What no key gives a strict server, and how often it was used.
    pub unavailable: BTreeMap<String, u64>,
    /// Hosts, and how often each was reached.
    pub reached: BTreeMap<(SocketAddr, Transport), u64>,
    /// Ports of its own that it listens on.
    pub listens: BTreeSet<u16>,
    /// Names that were asked for.
    pub asked: BTreeSet<String>,
    /// Names of addresses, as far as the answers were seen.
    pub names: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Programs, and how often each was executed.
    pub programs: BTreeMap<PathBuf, u64>,
    /// System calls that the filter of a strict server refuses.
    pub refused: BTreeMap<&'static str, u64>,
    /// Acts whose arguments could not be read.
    pub unread: u64,
    /// Acts that had no room in this record.
    pub left_out: u64,
    /// The most that was held at one time.
    pub peak: Peak,
}

impl Recorded {
    /// Takes in what was seen; whether it is of a kind and place that was not seen before.
    pub fn take(&mut self, seen: Seen) -> bool {
        let taken = match seen {
            Seen::File {
                path,
                usage,
                is_folder,
            } => return self.take_file(path, usage, is_folder),
            Seen::Denied { path, usage } => {
                let known = self.denied.get(&path).copied();
                let is_fit = path.as_os_str().len() <= MAX_TEXT;
                match known {
                    Some(before) if before >= usage => Taken::Known,
                    None if !is_fit || self.denied.len() >= MAX_ENTRIES => Taken::NoRoom,
                    _ => {
                        self.denied.insert(path, usage);
                        Taken::New
                    }
                }
            }
            Seen::Unavailable(what) => count(&mut self.unavailable, what, |it| it.len()),
            Seen::Reached { to, transport } => {
                let to = SocketAddr::new(to.ip().to_canonical(), to.port());
                count(&mut self.reached, (to, transport), |_| 0)
            }
            Seen::Listens(port) => insert(&mut self.listens, port, 0),
            Seen::Asked(name) => {
                let len = name.len();
                insert(&mut self.asked, name, len)
            }
            Seen::Answered { name, addresses } => self.take_answer(&name, addresses),
            Seen::Ran(path) => count(&mut self.programs, path, |it| it.as_os_str().len()),
            Seen::Refused(call) => count(&mut self.refused, call, |_| 0),
            Seen::Unread => {
                self.unread += 1;
                if self.unread == 1 {
                    Taken::New
                } else {
                    Taken::Known
                }
            }
        };
        if matches!(taken, Taken::NoRoom) {
            self.left_out += 1;
        }
        matches!(taken, Taken::New)
    }

    fn take_file(&mut self, path: PathBuf, usage: Use, is_folder: bool) -> bool {
        if let Some(known) = self.files.get_mut(&path) {
            let is_more = usage > known.usage;
            known.usage = known.usage.max(usage);
            known.is_folder |= is_folder;
            known.count += 1;
            return is_more;
        }
        if self.files.len() >= MAX_ENTRIES || path.as_os_str().len() > MAX_TEXT {
            self.left_out += 1;
            return false;
        }
        let first = FileUse {
            usage,
            is_folder,
            count: 1,
        };
        self.files.insert(path, first);
        true
    }

    fn take_answer(&mut self, name: &str, addresses: Vec<IpAddr>) -> Taken {
        let mut taken = Taken::Known;
        for address in addresses {
            let address = address.to_canonical();
            let is_known = self.names.contains_key(&address);
            if !is_known && self.names.len() >= MAX_ENTRIES || name.len() > MAX_TEXT {
                return Taken::NoRoom;
            }
            let names = self.names.entry(address).or_default();
            if names.len() < MAX_NAMES && names.insert(name.to_owned()) {
                taken = Taken::New;
            }
        }
        taken
    }
}

/// What became of an act.
enum Taken {
    New,
    Known,
    NoRoom,
}

fn insert<T: Ord>(set: &mut BTreeSet<T>, item: T, len: usize) -> Taken {
    if set.contains(&item) {
        return Taken::Known;
    }
    if set.len() >= MAX_ENTRIES || len > MAX_TEXT {
        return Taken::NoRoom;
    }
    set.insert(item);
    Taken::New
}

fn count<T: Ord>(map: &mut BTreeMap<T, u64>, item: T, len: impl Fn(&T) -> usize) -> Taken {
    if let Some(known) = map.get_mut(&item) {
        *known += 1;
        return Taken::Known;
    }
    if map.len() >= MAX_ENTRIES || len(&item) > MAX_TEXT {
        return Taken::NoRoom;
    }
    map.insert(item, 1);
    Taken::New
}

/// A record that several workers of a server write to.
#[derive(Debug)]
pub struct Record {
    /// Whether names and peaks are recorded too, which costs more than the rest.
    is_full: bool,
    recorded: Mutex<Recorded>,
}

impl Record {
    /// An empty record: for `profile` a full one; for `sandbox = "observe"` of what a strict server would lack.
    pub fn new(is_full: bool) -> Self {
        Self {
            is_full,
            recorded: Mutex::default(),
        }
    }

    /// Whether names and peaks are recorded too.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Takes in what was seen; whether it is of a kind and place that was not seen before.
    pub fn note(&self, seen: Seen) -> bool {
        self.recorded.lock().take(seen)
    }

    /// Takes in what is held now.
    pub fn note_peak(&self, held: Peak) {
        let mut recorded = self.recorded.lock();
        recorded.peak = recorded.peak.or(held);
    }

    /// A copy of all that was seen so far.
    pub fn recorded(&self) -> Recorded {
        self.recorded.lock().clone()
    }
}

/// The records of servers: one for all, or one for each.
#[derive(Debug, Default)]
pub struct RecordBook {
    of_all: Option<Arc<Record>>,
    of_servers: Mutex<BTreeMap<ServerName, Arc<Record>>>,
}

impl RecordBook {
    /// One full record, which every server is recorded in.
    pub fn one(record: Arc<Record>) -> Self {
        Self {
            of_all: Some(record),
            of_servers: Mutex::default(),
        }
    }

    /// Whether every server is recorded, whatever its `sandbox` is.
    pub fn is_of_all(&self) -> bool {
        self.of_all.is_some()
    }

    /// The record of a server that is recorded by itself; `None` for one of which nothing was recorded yet.
    pub fn existing(&self, server: &ServerName) -> Option<Arc<Record>> {
        self.of_servers.lock().get(server).map(Arc::clone)
    }

    /// The record of a server.
    pub fn of(&self, server: &ServerName) -> Arc<Record> {
        if let Some(record) = &self.of_all {
            return Arc::clone(record);
        }
        let mut records = self.of_servers.lock();
        let record = records
            .entry(server.clone())
            .or_insert_with(|| Arc::new(Record::new(false)));
        Arc::clone(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, usage: Use) -> Seen {
        Seen::File {
            path: path.into(),
            usage,
            is_folder: false,
        }
    }

    #[test]
    fn a_kind_is_new_once_and_more_of_it_is_new_again() {
        let record = Record::new(true);
        assert!(record.note(file("/a", Use::Read)));
        assert!(!record.note(file("/a", Use::Look)));
        assert!(record.note(file("/a", Use::Write)));
        assert!(record.note(Seen::Refused("mount")));
        assert!(!record.note(Seen::Refused("mount")));
        let recorded = record.recorded();
        assert_eq!(recorded.files[&PathBuf::from("/a")].count, 3);
        assert_eq!(recorded.refused["mount"], 2);
    }

    #[test]
    fn whatever_a_server_does_the_record_stays_bounded_and_says_what_it_left_out() {
        let mut recorded = Recorded::default();
        for n in 0..MAX_ENTRIES as u64 + 10 {
            recorded.take(file(&format!("/f{n}"), Use::Read));
            recorded.take(Seen::Asked(format!("n{n}.example")));
            let port = u16::try_from(n % 60_000).expect("small");
            let ip = std::net::Ipv4Addr::from(u32::try_from(n).expect("small"));
            recorded.take(Seen::Reached {
                to: (ip, port).into(),
                transport: Transport::Tcp,
            });
            recorded.take(Seen::Answered {
                name: format!("n{n}.example"),
                addresses: vec![ip.into()],
            });
        }
        recorded.take(file(&"/x".repeat(MAX_TEXT), Use::Read));
        assert_eq!(recorded.files.len(), MAX_ENTRIES);
        assert_eq!(recorded.reached.len(), MAX_ENTRIES);
        assert_eq!(recorded.left_out, 41);
    }
}
