//! The network of a worker that reaches the hosts of a list: a loopback to which every address leads, and sockets on it that the
//! supervisor holds.
//!
//! A socket belongs to the network that it was made in, whoever holds it. So the leader makes them while it may, hands them to the supervisor
//! and executes its program without; no process is needed in the network beside the worker's own. What no socket listens for, the kernel
//! refuses at once, and a socket that sees the heads of packets tells of it.
#![allow(unsafe_code, reason = "netlink, and sending descriptors")]

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::egress::{Network, head_filter};
use crate::launch::LaunchSpec;
use crate::process::receive_packet;

/// Connections that wait to be taken, of each port.
const BACKLOG: i32 = 128;
/// Where DNS is asked: the resolver of `/etc/resolv.conf`, and what programs ask without such a file.
const DNS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// The network that a worker is in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum OwnNetwork {
    /// The host's.
    Host,
    /// A network of the worker's own, with nobody in it.
    Empty,
    /// A network of the worker's own, in which these ports of every address lead to the supervisor.
    Ports(Vec<u16>),
}

impl OwnNetwork {
    /// The network of a launch.
    pub(super) fn of(spec: &LaunchSpec) -> Self {
        match spec.sandbox.as_ref().map(|it| &it.network) {
            None | Some(Network::On) => Self::Host,
            Some(Network::Off) => Self::Empty,
            Some(Network::Allow(list)) => Self::Ports(list.ports().into_iter().collect()),
        }
    }

    pub(super) fn is_host(&self) -> bool {
        matches!(self, Self::Host)
    }

    /// Whether sockets of the network are handed out to the supervisor.
    pub(super) fn has_sockets(&self) -> bool {
        matches!(self, Self::Ports(_))
    }

    /// Opens the sockets of this process's network, which is new, and sends them.
    ///
    /// # Errors
    /// When the host does not let them be made, or the supervisor is gone.
    pub(super) fn open(&self, to: Option<&OwnedFd>) -> io::Result<()> {
        let Self::Ports(ports) = self else {
            return Ok(());
        };
        let to = to.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        let has_v6 = lead_all_addresses_here()?;
        let mut sockets = vec![Socket::from(open_dns()?), open_heads()?];
        for port in ports {
            sockets.push(listen(*port, has_v6)?);
        }
        let fds: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(&[0])], &rights, flags, None)?;
        Ok(())
    }

    /// Tries all of it, for a port, in this process's network, which is new.
    ///
    /// # Errors
    /// When the host does not let it be made.
    pub(super) fn try_out() -> io::Result<()> {
        let (_ours, leaders) = handing_out()?;
        Self::Ports(vec![443]).open(Some(&leaders))
    }
}

/// What descriptors are handed to the supervisor by: its end, and the leader's.
///
/// # Errors
/// When there are no sockets to be had.
pub(super) fn handing_out() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok(pair)
}

/// Sockets of a worker's own network, as the supervisor holds them. None of them waits.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Where DNS is asked.
    pub(crate) dns: std::net::UdpSocket,
    /// Where the heads of packets are seen that nothing may listen for: a packet socket, of which recv(2) is all that is used.
    pub(crate) heads: std::net::UdpSocket,
    /// One for each port, of all addresses.
    pub(crate) listeners: Vec<std::net::TcpListener>,
}

impl Sockets {
    /// The sockets that the leader has sent before it executed its program.
    ///
    /// # Errors
    /// When it has not, or this process may not open so many files.
    pub(super) fn receive(from: &OwnedFd) -> io::Result<Self> {
        let (_, fds) = receive_packet(from.as_fd(), &mut [0])?;
        Self::of(fds)
    }

    /// The sockets of a packet that was received.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub(super) fn of(fds: Vec<OwnedFd>) -> io::Result<Self> {
        let mut fds = fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(dns), Some(heads)) => Ok(Self {
                dns: dns.into(),
                heads: heads.into(),
                listeners: fds.map(Into::into).collect(),
            }),
            _ => Err(io::Error::from_raw_os_error(libc::EMFILE)),
        }
    }
}

fn open_dns() -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(DNS)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A socket that sees the heads of packets which ask for something (packet(7)).
fn open_heads() -> io::Result<Socket> {
    let all = u16::try_from(libc::ETH_P_ALL).map_err(io::Error::other)?;
    let protocol = Protocol::from(i32::from(all.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
    let steps = head_filter().into_iter();
    let steps = steps.map(|(code, jt, jf, k)| SockFilter::new(code, jt, jf, k));
    socket.attach_filter(&steps.collect::<Vec<_>>())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn listen(port: u16, has_v6: bool) -> io::Result<Socket> {
    let (domain, address) = match has_v6 {
        true => (
            Domain::IPV6,
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        ),
        false => (
            Domain::IPV4,
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        ),
    };
    let socket = Socket::new(domain, Type::STREAM, None)?;
    if has_v6 {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Makes every address of IPv4 and IPv6 one of this network's loopback; whether there is IPv6.
fn lead_all_addresses_here() -> io::Result<bool> {
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, None)?;
    add_local_route(&socket, libc::AF_INET)?;
    match add_local_route(&socket, libc::AF_INET6) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // The host goes without IPv6.
            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EACCES | libc::EINVAL) => Ok(false),
            _ => Err(error),
        },
    }
}

/// `ip route add local 0.0.0.0/0 dev lo` (rtnetlink(7)).
fn add_local_route(socket: &Socket, family: libc::c_int) -> io::Result<()> {
    /// The loopback of every network.
    const LOOPBACK: u32 = 1;
    let kind = libc::RTN_LOCAL;
    let scope = match family {
        libc::AF_INET => libc::RT_SCOPE_HOST,
        _ => libc::RT_SCOPE_UNIVERSE,
    };
    let family = u8::try_from(family).map_err(io::Error::other)?;
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let flags = u16::try_from(flags).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(36);
    message.extend(36_u32.to_ne_bytes());
    message.extend(libc::RTM_NEWROUTE.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    // The number of the message, and its sender.
    message.extend([0; 8]);
    // `rtmsg`: of all addresses, in the table of what is local.
    message.extend([
        family,
        0,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_BOOT,
        scope,
        kind,
    ]);
    message.extend([0; 4]);
    // An attribute of eight bytes: the device.
    message.extend(8_u16.to_ne_bytes());
    message.extend(libc::RTA_OIF.to_ne_bytes());
    message.extend(LOOPBACK.to_ne_bytes());
    socket.send(&message)?;
    let mut answer = [0_u8; 1024];
    // SAFETY: the buffer is valid for its length.
    let len = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            answer.len(),
            0,
        )
    };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // `nlmsgerr` behind the header: a negative number of an error, or zero.
    let number = answer[..len].get(16..20).and_then(|it| it.first_chunk());
    match number.map(|it| i32::from_ne_bytes(*it)) {
        Some(0) => Ok(()),
        Some(number) => Err(io::Error::from_raw_os_error(-number)),
        None => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}
