//! Reads what a call is about out of its arguments and the memory of the process that makes it. Both are the server's: nothing of them is
//! trusted, and all of it is bounded.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::calls::{Act, Part, parts_of};

/// Longest path, in bytes, without its end (PATH_MAX).
pub(super) const MAX_PATH: usize = 4095;
/// Longest address of a socket, in bytes (`sockaddr_storage`).
const MAX_ADDRESS: usize = 128;
/// Most messages of one call.
const MAX_MESSAGES: u64 = 8;

/// Why memory was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotRead {
    /// Nothing is there: the call fails too.
    Nothing,
    /// stdiopool may not read there, or the process has ended.
    Refused,
}

/// The memory of a process.
pub(super) trait Memory {
    /// As many bytes as there are from `at` on, up to `len`.
    ///
    /// # Errors
    /// [`NotRead`] when there is none.
    fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>, NotRead>;

    /// A text, without the zero at its end.
    ///
    /// # Errors
    /// [`NotRead`] when there is none, or it is too long for a path.
    fn text(&self, at: u64) -> Result<Vec<u8>, NotRead> {
        /// A read goes to the end of a page at the most: what is behind it may not be there.
        const PAGE: u64 = 4096;
        let mut text = Vec::new();
        let mut at = at;
        while text.len() <= MAX_PATH {
            let left = PAGE - at % PAGE;
            let piece = self.bytes(at, usize::try_from(left).unwrap_or(MAX_PATH))?;
            if piece.is_empty() {
                return Err(NotRead::Nothing);
            }
            if let Some(end) = piece.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&piece[..end]);
                return match text.len() <= MAX_PATH {
                    true => Ok(text),
                    false => Err(NotRead::Nothing),
                };
            }
            at = at.checked_add(piece.len() as u64).ok_or(NotRead::Nothing)?;
            text.extend(piece);
        }
        Err(NotRead::Nothing)
    }
}

/// Where a socket leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Address {
    /// A host and its port.
    Host(SocketAddr),
    /// A socket in a folder.
    Path(Vec<u8>),
    /// An abstract one.
    Abstract(Vec<u8>),
}

/// Bytes in the memory of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) len: u64,
}

/// What a call is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// A path, from that folder on.
    Path(i32, Vec<u8>, Act),
    /// A family of sockets.
    Family(i32),
    /// A socket is connected.
    Connect(i32, Address),
    /// A socket takes connections.
    Listen(i32),
    /// Bytes are sent, perhaps to an address.
    Send(i32, Option<Address>, Piece),
    /// Bytes are awaited.
    Receive(i32),
    /// A call that a strict server may not make.
    Refused(&'static str),
}

/// What a call is about.
///
/// # Errors
/// When the memory that it names may not be read.
pub(super) fn decode(
    number: i64,
    args: &[u64; 6],
    memory: &impl Memory,
) -> Result<Vec<Wish>, NotRead> {
    let mut wishes = Vec::new();
    for part in parts_of(number) {
        match wish(*part, args, memory, &mut wishes) {
            Ok(()) | Err(NotRead::Nothing) => {}
            Err(NotRead::Refused) => return Err(NotRead::Refused),
        }
    }
    Ok(wishes)
}

fn wish(
    part: Part,
    args: &[u64; 6],
    memory: &impl Memory,
    wishes: &mut Vec<Wish>,
) -> Result<(), NotRead> {
    let folder = |at: Option<usize>| at.map_or(libc::AT_FDCWD, |at| number(args[at]));
    let mut add = |wish| wishes.push(wish);
    match part {
        Part::Path(at, path, act) => {
            // Without a path some calls mean the descriptor itself.
            if args[path] != 0 {
                add(Wish::Path(folder(at), memory.text(args[path])?, act));
            }
        }
        Part::Open(at, path, flags) => {
            let act = Act::Open(args[flags] & u64::from(u32::MAX));
            add(Wish::Path(folder(at), memory.text(args[path])?, act));
        }
        Part::HowTo => {
            let flags = memory.bytes(args[2], 8)?;
            let flags = flags.first_chunk::<8>().ok_or(NotRead::Nothing)?;
            let act = Act::Open(u64::from_ne_bytes(*flags));
            add(Wish::Path(number(args[0]), memory.text(args[1])?, act));
        }
        Part::Program(at, path) => {
            let path = memory.text(args[path])?;
            add(Wish::Path(folder(at), path, Act::Execute));
        }
        Part::Family => add(Wish::Family(number(args[0]))),
        Part::Connect => {
            if let Some(to) = address(memory, args[1], args[2])? {
                add(Wish::Connect(number(args[0]), to));
            }
        }
        Part::Listen => add(Wish::Listen(number(args[0]))),
        Part::Send => {
            let to = address(memory, args[4], args[5])?;
            let (at, len) = (args[1], args[2]);
            add(Wish::Send(number(args[0]), to, Piece { at, len }));
        }
        Part::Write => {
            let (at, len) = (args[1], args[2]);
            add(Wish::Send(number(args[0]), None, Piece { at, len }));
        }
        Part::Message => add(message(number(args[0]), args[1], memory)?),
        Part::Messages => {
            /// `mmsghdr`: a message, and how much of it was sent.
            const LEN: u64 = size_of::<libc::mmsghdr>() as u64;
            for n in 0..args[2].min(MAX_MESSAGES) {
                let at = args[1].checked_add(n * LEN).ok_or(NotRead::Nothing)?;
                add(message(number(args[0]), at, memory)?);
            }
        }
        Part::Receive => add(Wish::Receive(number(args[0]))),
        Part::Namespaces => {
            if args[0] & NEW_NAMESPACES != 0 {
                add(Wish::Refused("new namespaces"));
            }
        }
        Part::CloneFlags => {
            let flags = memory.bytes(args[0], 8)?;
            let flags = flags.first_chunk::<8>().ok_or(NotRead::Nothing)?;
            if u64::from_ne_bytes(*flags) & NEW_NAMESPACES != 0 {
                add(Wish::Refused("new namespaces"));
            }
        }
        Part::Refused(name) => add(Wish::Refused(name)),
    }
    Ok(())
}

/// Flags of clone(2), clone3(2) and unshare(2) that make a namespace.
pub(crate) const NEW_NAMESPACES: u64 = {
    let all = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    all as u64
};

/// A descriptor or another number of 32 bits.
#[allow(
    clippy::cast_possible_truncation,
    reason = "the kernel takes the lower half"
)]
fn number(argument: u64) -> i32 {
    (argument as u32).cast_signed()
}

/// `msghdr` at a place: where it goes, and the first piece of it.
fn message(socket: i32, at: u64, memory: &impl Memory) -> Result<Wish, NotRead> {
    /// Name, its length, vector, its length: each takes eight bytes on the processors that this is for.
    const LEN: usize = 32;
    let header = memory.bytes(at, LEN)?;
    let field = |at: usize| {
        let bytes = header.get(at..at + 8)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let fields = (field(0), field(8), field(16), field(24));
    let (Some(name), Some(name_len), Some(vector), Some(count)) = fields else {
        return Err(NotRead::Nothing);
    };
    let to = address(memory, name, name_len & u64::from(u32::MAX))?;
    let none = Piece { at: 0, len: 0 };
    if count == 0 {
        return Ok(Wish::Send(socket, to, none));
    }
    let first = memory.bytes(vector, 16)?;
    let number = |at: usize| {
        let bytes = first.get(at..at + 8)?.first_chunk::<8>()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    let piece = number(0).zip(number(8)).map(|(at, len)| Piece { at, len });
    Ok(Wish::Send(socket, to, piece.unwrap_or(none)))
}

/// The address at a place; `None` where there is none, or one of another family.
fn address(memory: &impl Memory, at: u64, len: u64) -> Result<Option<Address>, NotRead> {
    if at == 0 || len == 0 {
        return Ok(None);
    }
    let len = usize::try_from(len).unwrap_or(MAX_ADDRESS).min(MAX_ADDRESS);
    Ok(read_address(&memory.bytes(at, len)?))
}

/// Reads a `sockaddr`.
fn read_address(bytes: &[u8]) -> Option<Address> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let port = || Some(u16::from_be_bytes(*rest.first_chunk::<2>()?));
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let address = rest.get(2..6)?.first_chunk::<4>()?;
            let to = SocketAddr::from((Ipv4Addr::from(*address), port()?));
            Some(Address::Host(to))
        }
        libc::AF_INET6 => {
            let address = rest.get(6..22)?.first_chunk::<16>()?;
            let to = SocketAddr::from((Ipv6Addr::from(*address), port()?));
            Some(Address::Host(to))
        }
        libc::AF_UNIX => match rest.split_first()? {
            (0, name) => Some(Address::Abstract(name.to_vec())),
            _ => {
                let path = rest.split(|byte| *byte == 0).next()?;
                Some(Address::Path(path.to_vec()))
            }
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::worker::recorder::calls::{CALLS, CALLS_OF_HOSTS};

    /// Memory of some bytes, from that place on.
    struct Bytes(u64, Vec<u8>);

    impl Memory for Bytes {
        fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>, NotRead> {
            let start = at.checked_sub(self.0).ok_or(NotRead::Nothing)?;
            let start = usize::try_from(start).map_err(|_| NotRead::Nothing)?;
            let rest = self.1.get(start..).ok_or(NotRead::Nothing)?;
            match rest.len().min(len) {
                0 => Err(NotRead::Nothing),
                len => Ok(rest[..len].to_vec()),
            }
        }
    }

    fn memory(bytes: &[u8]) -> Bytes {
        Bytes(0x1000, bytes.to_vec())
    }

    #[test]
    fn paths_and_flags_are_read() {
        let memory = memory(b"/srv/a\0b\0");
        let flags = u64::from(libc::O_CREAT.cast_unsigned());
        let args = [5, 0x1000, flags, 0, 0, 0];
        let wishes = decode(libc::SYS_openat, &args, &memory).expect("read");
        assert_eq!(
            wishes,
            [Wish::Path(5, b"/srv/a".to_vec(), Act::Open(flags))]
        );
        let cwd = libc::AT_FDCWD as i64 as u64;
        let args = [cwd, 0x1000, cwd, 0x1007, 0, 0];
        let wishes = decode(libc::SYS_renameat2, &args, &memory).expect("read");
        assert_eq!(
            wishes,
            [
                Wish::Path(libc::AT_FDCWD, b"/srv/a".to_vec(), Act::Remove),
                Wish::Path(libc::AT_FDCWD, b"b".to_vec(), Act::Make),
            ]
        );
    }

    #[test]
    fn addresses_are_read() {
        let inet = [&[2, 0, 0x15, 0x38][..], &[10, 0, 0, 7], &[0; 8]].concat();
        let to = |text: &str| Some(Address::Host(text.parse().expect("one")));
        assert_eq!(read_address(&inet), to("10.0.0.7:5432"));
        let mut inet6 = vec![10, 0, 1, 187, 0, 0, 0, 0];
        inet6.extend("2001:db8::7".parse::<Ipv6Addr>().expect("one").octets());
        assert_eq!(read_address(&inet6), to("[2001:db8::7]:443"));
        let path = Address::Path(b"/run/x".to_vec());
        assert_eq!(read_address(b"\x01\0/run/x\0rest"), Some(path));
        let named = Address::Abstract(b"x".to_vec());
        assert_eq!(read_address(b"\x01\0\0x"), Some(named));
        assert_eq!(read_address(&[16, 0, 1]), None);
    }

    #[test]
    fn a_message_leads_to_its_address_and_first_piece() {
        let mut bytes = Vec::new();
        for field in [0x1030_u64, 16, 0x1020, 1, 0x5000, 33] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend([2, 0, 0, 53, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        let args = [3, 0x1000, 0, 0, 0, 0];
        let wishes = decode(libc::SYS_sendmsg, &args, &memory(&bytes)).expect("read");
        let to = Address::Host("1.1.1.1:53".parse().expect("one"));
        let piece = Piece {
            at: 0x5000,
            len: 33,
        };
        assert_eq!(wishes, [Wish::Send(3, Some(to), piece)]);
    }

    proptest! {
        #[test]
        fn whatever_the_arguments_are_a_call_is_read_or_not(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            args in proptest::array::uniform6(prop_oneof![0x0ff0..0x1140_u64, any::<u64>()]),
        ) {
            let memory = memory(&bytes);
            for (number, _) in CALLS.iter().chain(CALLS_OF_HOSTS) {
                for wish in decode(*number, &args, &memory).expect("never refused") {
                    if let Wish::Path(_, path, _) = wish {
                        prop_assert!(path.len() <= MAX_PATH && !path.contains(&0));
                    }
                }
            }
        }
    }
}
