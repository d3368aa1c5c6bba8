//! Hands data and descriptors to a helper process over a socket; the data in an anonymous memory file, so that it may
//! be large and is in no argument and no environment.

use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Serialize, de::DeserializeOwned};

/// Largest data, in bytes; far above what execve(2) takes (128 KiB a string, 6 MiB in all).
const MAX_DATA: u64 = 64 * 1024 * 1024;

/// Sends `data` as JSON, and a descriptor.
///
/// # Errors
/// When there is no memory file to be had, or the other side is gone.
pub(crate) fn hand_over(
    socket: BorrowedFd<'_>,
    data: &impl Serialize,
    fd: BorrowedFd<'_>,
) -> io::Result<()> {
    let file = memfd_create(c"stdiopool-command", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&serde_json::to_vec(data)?)?;
    file.rewind()?;
    let fds = [file.as_raw_fd(), fd.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(&[0])],
        &rights,
        flags,
        None,
    )?;
    Ok(())
}

/// Receives what [`hand_over`] sent.
///
/// # Errors
/// When something else came, or the other side is gone.
pub(crate) fn take_over<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<(T, OwnedFd)> {
    let (_, fds) = receive_packet(socket, &mut [0])?;
    let [file, fd] = <[OwnedFd; 2]>::try_from(fds)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "two descriptors are missing"))?;
    let mut text = Vec::new();
    File::from(file).take(MAX_DATA).read_to_end(&mut text)?;
    Ok((serde_json::from_slice(&text)?, fd))
}

/// Receives one packet into `text`, with the descriptors in it, close-on-exec: all of them or, where this process may
/// not open that many, none. Not by nix, which fails then, and leaks those that there was room for.
///
/// # Errors
/// As recvmsg(2); `WouldBlock` when nothing is there and the socket does not wait.
#[allow(
    unsafe_code,
    reason = "recvmsg(2), and received descriptors are plain numbers until they are owned"
)]
pub(crate) fn receive_packet(
    socket: BorrowedFd<'_>,
    text: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    // Of a type that is aligned as `cmsghdr` must be; room for more descriptors than anybody sends.
    let mut control = [0_u64; 16];
    let mut part = libc::iovec {
        iov_base: text.as_mut_ptr().cast(),
        iov_len: text.len(),
    };
    // SAFETY: all zeroes is a valid value of this plain structure.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header names valid buffers with their lengths, which live for the whole call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    let mut fds = Vec::new();
    // SAFETY: the kernel has written this header and what it names.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR return null, or a whole control message within the buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if (message.cmsg_level, message.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: only calculates.
            let empty = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = message.cmsg_len.saturating_sub(empty) / size_of::<RawFd>();
            // SAFETY: only calculates; the data begin behind the header.
            let data = unsafe { libc::CMSG_DATA(next) }.cast::<RawFd>();
            for index in 0..count {
                // SAFETY: the message holds `count` numbers.
                let place = unsafe { data.add(index) };
                // SAFETY: the kernel has written a number there.
                let fd = unsafe { place.read_unaligned() };
                // SAFETY: the kernel just made this descriptor for this process; nothing else owns it.
                fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    if header.msg_flags & libc::MSG_CTRUNC != 0 {
        fds.clear();
    }
    Ok((len, fds))
}
