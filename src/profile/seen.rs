//! What is seen of a server: one act of one of its processes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What is done to a file or folder. The later in this order, the more it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Use {
    /// A look at a file: whether there is one, or what it is.
    Look,
    /// A file was opened to be read, or executed.
    Read,
    /// A folder was opened, so that what is in it can be listed.
    List,
    /// Something was made, changed or removed.
    Write,
}

/// How a host is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An act of a server's process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A file or folder that a strict server without further keys would not see, or not write to. For [`Use::Write`] the path is
    /// the folder that has to be writable.
    File {
        /// The path, absolute.
        path: PathBuf,
        /// What was done.
        usage: Use,
        /// Whether the path is a folder.
        is_folder: bool,
    },
    /// A file or folder that permissions keep it from.
    Denied {
        /// The path, absolute.
        path: PathBuf,
        /// What the process tried with the file.
        usage: Use,
    },
    /// Something of the host that no key gives a strict server: a device, `/sys`, an abstract socket.
    Unavailable(String),
    /// A host was connected to, or sent a datagram.
    Reached {
        /// The address of the host.
        to: SocketAddr,
        /// How.
        transport: Transport,
    },
    /// A port of its own network that a process listens on.
    Listens(u16),
    /// The address of a name was asked for.
    Asked(String),
    /// The addresses of a name were told.
    Answered {
        /// The name that was asked for.
        name: String,
        /// The addresses of the name.
        addresses: Vec<IpAddr>,
    },
    /// A program was executed.
    Ran(PathBuf),
    /// A system call that the filter of a strict server refuses.
    Refused(&'static str),
    /// An act whose arguments could not be read.
    Unread,
}
