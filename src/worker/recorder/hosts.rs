//! Hosts that a worker reaches, and the names that they have: by what it sends to resolvers, and what waits for it on the sockets that lead
//! to them.

use std::collections::VecDeque;
use std::net::SocketAddr;

use socket2::{SockRef, Type};

use super::acting::Acting;
use super::decode::{Address, Memory, Piece};
use crate::profile::{Heard, Questions, Seen, Transport, heard};

/// Most sockets of each kind that are known at one time; the oldest is forgotten.
const MAX_SOCKETS: usize = 256;
/// Longest message that is looked at, in bytes.
const MAX_MESSAGE: usize = 4096;
/// Where DNS is asked.
const DNS: u16 = 53;

/// A socket that leads to a resolver.
#[derive(Debug)]
struct Asking {
    socket: u64,
    by: Questions,
    /// The name that was asked for last.
    name: Option<String>,
}

/// Sockets of a worker.
#[derive(Default, Debug)]
pub(super) struct Hosts {
    asking: VecDeque<Asking>,
    /// Sockets for datagrams that were connected: to find out by which of its own addresses a host is reached, resolvers do that too, and
    /// send nothing.
    connected: VecDeque<(u64, SocketAddr)>,
}

impl Hosts {
    /// A socket is connected to a host.
    pub(super) fn connect(&mut self, by: Acting, socket: i32, to: SocketAddr) -> Vec<Seen> {
        let Some(number) = by.socket(socket) else {
            return vec![];
        };
        let kind = by.duplicate(socket);
        let kind = kind.and_then(|it| SockRef::from(&it).r#type().ok());
        self.forget(number);
        match kind {
            Some(Type::DGRAM) if to.port() == DNS => self.ask(number, Questions::Dns),
            Some(Type::STREAM) if to.port() == DNS => self.ask(number, Questions::DnsStream),
            Some(Type::DGRAM) => {
                if self.connected.len() >= MAX_SOCKETS {
                    self.connected.pop_front();
                }
                self.connected.push_back((number, to));
            }
            // An address of all zeroes is this host's.
            Some(Type::STREAM) => {
                return vec![Seen::Reached {
                    to: plain(to),
                    transport: Transport::Tcp,
                }];
            }
            _ => {}
        }
        vec![]
    }

    /// A socket is connected to one in a folder; whether it is a resolver's.
    pub(super) fn connect_path(&mut self, by: Acting, socket: i32, path: &[u8]) -> bool {
        let questions = match path {
            path if path.ends_with(b"/nscd/socket") => Questions::Nscd,
            path if path.ends_with(b"/io.systemd.Resolve") => Questions::Resolved,
            _ => return false,
        };
        if let Some(number) = by.socket(socket) {
            self.forget(number);
            self.ask(number, questions);
        }
        true
    }

    /// A socket takes connections.
    pub(super) fn listen(&self, by: Acting, socket: i32) -> Vec<Seen> {
        let socket = by.duplicate(socket);
        let address = socket.and_then(|it| SockRef::from(&it).local_addr().ok());
        let port = address.and_then(|it| it.as_socket()).map(|it| it.port());
        // A socket without a port gets one by this call.
        let port = port.filter(|port| *port != 0);
        port.map(Seen::Listens).into_iter().collect()
    }

    /// Bytes are sent.
    pub(super) fn send(
        &mut self,
        by: Acting,
        socket: i32,
        to: Option<&Address>,
        bytes: Piece,
    ) -> Vec<Seen> {
        let to = match to {
            Some(Address::Host(to)) => Some(*to),
            Some(Address::Path(_) | Address::Abstract(_)) => return vec![],
            None if self.asking.is_empty() && self.connected.is_empty() => return vec![],
            None => None,
        };
        let Some(number) = by.socket(socket) else {
            return vec![];
        };
        match to {
            Some(to) if to.port() != DNS => return datagram(to),
            Some(_) if !self.asking.iter().any(|it| it.socket == number) => {
                self.ask(number, Questions::Dns);
            }
            Some(_) | None => {}
        }
        if let Some(at) = self.connected.iter().position(|(it, _)| *it == number) {
            let to = self.connected.remove(at);
            return to.map_or_else(Vec::new, |(_, to)| datagram(to));
        }
        let Some(asking) = self.asking.iter_mut().find(|it| it.socket == number) else {
            return vec![];
        };
        let len = usize::try_from(bytes.len).unwrap_or(MAX_MESSAGE);
        let Ok(message) = by.bytes(bytes.at, len.min(MAX_MESSAGE)) else {
            return vec![];
        };
        match heard(asking.by, &message) {
            Some(Heard::Asked(name)) => {
                asking.name = Some(name.clone());
                vec![Seen::Asked(name)]
            }
            _ => vec![],
        }
    }

    /// Bytes are awaited: what is there already is looked at, and left.
    pub(super) fn receive(&mut self, by: Acting, socket: i32) -> Vec<Seen> {
        if self.asking.is_empty() {
            return vec![];
        }
        let number = by.socket(socket);
        let asking = self.asking.iter().find(|it| Some(it.socket) == number);
        let Some(asking) = asking else { return vec![] };
        let Some(socket) = by.duplicate(socket) else {
            return vec![];
        };
        let message = waiting(&socket);
        let (name, addresses) = match message.and_then(|it| heard(asking.by, &it)) {
            Some(Heard::Answered(name, addresses)) => (Some(name), addresses),
            Some(Heard::Addresses(addresses)) => (asking.name.clone(), addresses),
            Some(Heard::Asked(_)) | None => return vec![],
        };
        let answered = name.map(|name| Seen::Answered { name, addresses });
        answered.into_iter().collect()
    }

    fn ask(&mut self, socket: u64, by: Questions) {
        if self.asking.len() >= MAX_SOCKETS {
            self.asking.pop_front();
        }
        self.asking.push_back(Asking {
            socket,
            by,
            name: None,
        });
    }

    /// The socket is used for something else, or its number for another one.
    fn forget(&mut self, socket: u64) {
        self.asking.retain(|it| it.socket != socket);
        self.connected.retain(|(it, _)| *it != socket);
    }
}

/// A datagram to a host.
fn datagram(to: SocketAddr) -> Vec<Seen> {
    vec![Seen::Reached {
        to: plain(to),
        transport: Transport::Udp,
    }]
}

/// Connecting to the address of all zeroes leads to this host.
fn plain(to: SocketAddr) -> SocketAddr {
    let address = match to.ip().to_canonical() {
        it if it.is_unspecified() && it.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        it if it.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        it => it,
    };
    SocketAddr::new(address, to.port())
}

/// The first message that waits on a socket, which stays there. Answers come one by one, so that each is the first at one time.
#[allow(
    unsafe_code,
    reason = "recv(2) with flags that the safe wrappers take away"
)]
fn waiting(socket: &std::os::fd::OwnedFd) -> Option<Vec<u8>> {
    use std::os::fd::AsRawFd;
    let mut message = vec![0_u8; MAX_MESSAGE];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the buffer is valid for its length.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            message.as_mut_ptr().cast(),
            message.len(),
            flags,
        )
    };
    let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
    message.truncate(len);
    Some(message)
}
