//! What of a socket's output its peer has not taken yet.
#![allow(
    unsafe_code,
    reason = "no crate that is used here has a safe wrapper of SIOCOUTQ"
)]

use std::os::fd::AsRawFd;

use tokio::net::TcpStream;

/// Bytes that were written to the socket and that its peer has not acknowledged (tcp(7), `SIOCOUTQ`). `None`: it is no
/// socket that could say so.
pub(super) fn untaken(socket: &TcpStream) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the socket is borrowed, and the kernel writes one number to `bytes`. On Linux
    // SIOCOUTQ and TIOCOUTQ are one number.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match done {
        0 => u64::try_from(bytes).ok(),
        _ => None,
    }
}
