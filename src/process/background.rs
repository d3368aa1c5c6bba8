//! Processes that go behind all others on the processor for a while (sched(7)).

use std::fs;
use std::io;

use nix::unistd::{Pid, getsid};

use super::scheduling::{LONG_SLICE, SLICE, set_slice};

/// Niceness of a session whose processes go behind: a ninth of the usual weight.
const BEHIND: &str = "10";
const USUAL: &str = "0";

/// Lets processes go behind all others of the host, or as usual again. Their threads have long time slices then, which whoever has
/// short ones may interrupt (Linux 6.12), and their sessions, where the kernel groups by sessions, a ninth of the weight.
/// Whatever they start goes with them. Sessions whose leader is none of them are not theirs and stay as they are, and so do
/// threads and sessions for which somebody else chose. Both take no right for processes of the own user.
///
/// # Errors
/// When the kernel refuses it for a process that is there; the others are as they are to be.
pub(crate) fn set_background(pids: &[u32], is_background: bool) -> io::Result<()> {
    let mut outcome = Ok(());
    for pid in pids {
        let done = set_slices(*pid, is_background).and_then(|()| set_session(*pid, is_background));
        match done {
            // Ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => outcome = Err(error),
            Ok(()) => {}
        }
    }
    outcome
}

fn set_slices(pid: u32, is_background: bool) -> io::Result<()> {
    let (usual, meant) = match is_background {
        true => (SLICE, LONG_SLICE),
        false => (LONG_SLICE, SLICE),
    };
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = thread?.file_name();
        if let Some(thread) = name.to_str().and_then(|name| name.parse().ok()) {
            set_slice(thread, usual, meant)?;
        }
    }
    Ok(())
}

fn set_session(pid: u32, is_background: bool) -> io::Result<()> {
    let session = getsid(Some(Pid::from_raw(pid.cast_signed())))?;
    // Once for each session, and only for those that began with one of the processes.
    if session.as_raw().cast_unsigned() != pid {
        return Ok(());
    }
    let (had, meant) = match is_background {
        true => (USUAL, BEHIND),
        false => (BEHIND, USUAL),
    };
    let file = format!("/proc/{pid}/autogroup");
    let now = match fs::read_to_string(&file) {
        // A kernel that cannot group by sessions.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        now => now?,
    };
    // "/autogroup-NUMBER nice NICENESS"
    match now.trim_end().rsplit_once(" nice ") {
        Some((_, nice)) if nice == had => fs::write(file, meant),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::process::scheduling::slice_of;

    /// A process in a session of its own that has short time slices.
    #[allow(
        unsafe_code,
        clippy::disallowed_methods,
        reason = "a process to be scheduled"
    )]
    fn sleeper() -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::null());
        let prepare = || {
            nix::unistd::setsid()?;
            crate::process::take_short_slices()
        };
        // SAFETY: both are system calls alone.
        unsafe { command.pre_exec(prepare) };
        command.spawn().expect("started")
    }

    fn niceness(pid: u32) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/{pid}/autogroup")).ok()?;
        Some(text.trim_end().rsplit_once(" nice ")?.1.to_owned())
    }

    #[test]
    fn a_process_goes_behind_and_as_usual_again() {
        let mut sleeper = sleeper();
        let pid = sleeper.id();
        let thread = pid.cast_signed();
        let short = slice_of(thread).expect("it is there");
        let is_grouped = niceness(pid).is_some();
        set_background(&[pid], true).expect("it may");
        let long = slice_of(thread).expect("it is there");
        // An older kernel tells 0 always.
        assert!(
            short == 0 || (short, long) == (SLICE, LONG_SLICE),
            "{short} {long}"
        );
        assert!(!is_grouped || niceness(pid).as_deref() == Some(BEHIND));
        set_background(&[pid, u32::MAX >> 1], false).expect("one that is not there is passed over");
        assert_eq!(slice_of(thread).expect("it is there"), short);
        assert!(!is_grouped || niceness(pid).as_deref() == Some(USUAL));
        sleeper.kill().expect("killed");
        sleeper.wait().expect("gone");
    }

    #[test]
    fn what_somebody_else_chose_stays() {
        let mut sleeper = sleeper();
        let pid = sleeper.id();
        let file = format!("/proc/{pid}/autogroup");
        let is_set = fs::write(file, "5").is_ok();
        set_background(&[pid], true).expect("it may");
        assert!(!is_set || niceness(pid).as_deref() == Some("5"));
        sleeper.kill().expect("killed");
        sleeper.wait().expect("gone");
    }
}
