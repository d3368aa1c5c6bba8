//! Hands data and descriptors to a helper process over a socket; the data in an anonymous memory file, so that it may
//! be large and is in no argument and no environment.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
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
#[allow(
    unsafe_code,
    reason = "received descriptors are plain numbers until they are owned"
)]
pub(crate) fn take_over<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<(T, OwnedFd)> {
    let mut byte = [0u8; 1];
    let mut control = cmsg_space!([RawFd; 2]);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel just made these descriptors for this process; nothing else owns them.
            let owned = numbers
                .into_iter()
                .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
            fds.extend(owned);
        }
    }
    let [file, fd] = <[OwnedFd; 2]>::try_from(fds)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "two descriptors are missing"))?;
    let mut text = Vec::new();
    File::from(file).take(MAX_DATA).read_to_end(&mut text)?;
    Ok((serde_json::from_slice(&text)?, fd))
}
