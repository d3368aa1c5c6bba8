//! A terminal that programs run in: a pseudo-terminal, and an emulator that shows what is on its screen.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use nix::libc::O_NOCTTY;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::processes::{self, Process};
use super::{PATIENCE, until};

/// Rows and columns at the beginning.
pub(crate) const SIZE: (u16, u16) = (30, 100);

/// What has been written to the terminal.
struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// A program in a terminal of its own, which is its controlling one. Dropping it kills all that it started.
pub(crate) struct Terminal {
    child: Child,
    /// The end that a person sits at.
    master: File,
    /// The end that the program has, kept to look at its modes.
    slave: File,
    seen: Arc<Mutex<Seen>>,
    modes_before: Termios,
}

fn size((rows, columns): (u16, u16)) -> (NonZeroU16, NonZeroU16) {
    let size = |n| NonZeroU16::new(n).expect("not nothing");
    (size(rows), size(columns))
}

impl Terminal {
    /// Runs the program in the foreground of a new session. `NO_COLOR` is taken away unless `command` sets it again.
    pub(crate) fn run(program: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let mut options = File::options();
        options.read(true).write(true).custom_flags(O_NOCTTY);
        let slave = options.open(name.to_str().expect("ASCII")).expect("opens");
        let master = File::from(master);
        let modes_before = tcgetattr(&slave).expect("a terminal");
        set_size(&master, SIZE);
        let end = || Stdio::from(slave.try_clone().expect("one more"));
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", program])
            .args(args)
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR")
            .envs(env.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end());
        #[allow(clippy::disallowed_methods, reason = "the program under test")]
        let child = command.spawn().expect("setsid of util-linux is there");
        let (rows, columns) = size(SIZE);
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(rows, columns, 0),
            bytes: vec![],
        }));
        let (mut from, told) = (master.try_clone().expect("one more"), Arc::clone(&seen));
        // Ends when both of the program's ends are closed.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                let mut seen = told.lock().expect("not poisoned");
                seen.parser.process(&buffer[..n]);
                seen.bytes.extend_from_slice(&buffer[..n]);
            }
        });
        Self {
            child,
            master,
            slave,
            seen,
            modes_before,
        }
    }

    /// Presses keys.
    pub(crate) fn press(&self, keys: &str) {
        (&self.master)
            .write_all(keys.as_bytes())
            .expect("it is read");
    }

    /// Makes the terminal larger or smaller.
    pub(crate) fn resize(&self, to: (u16, u16)) {
        let (rows, columns) = size(to);
        let mut seen = self.seen.lock().expect("not poisoned");
        seen.parser.set_size(rows, columns);
        set_size(&self.master, to);
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.with(|screen| screen.contents())
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.seen.lock().expect("not poisoned").parser.screen())
    }

    /// All that was written to the terminal, from the byte on.
    pub(crate) fn written_since(&self, from: usize) -> Vec<u8> {
        self.seen.lock().expect("not poisoned").bytes[from..].to_vec()
    }

    /// How many bytes were written to the terminal.
    pub(crate) fn written(&self) -> usize {
        self.seen.lock().expect("not poisoned").bytes.len()
    }

    /// Waits for that text on the screen, and gives all of the screen.
    pub(crate) fn until_shown(&self, text: &str) -> String {
        self.until(&format!("`{text}` is shown"), |screen| {
            screen.contains(text)
        })
    }

    /// Waits until the screen is as it should be.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(
                Instant::now() < deadline,
                "never came true: {what}; the screen is\n{screen}"
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Whether the terminal is as it was before the program: its modes, the screen it shows, its cursor.
    pub(crate) fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("a terminal");
        let before = &self.modes_before;
        let are_same = modes.local_modes == before.local_modes
            && modes.input_modes == before.input_modes
            && modes.output_modes == before.output_modes;
        are_same
            && self.with(|screen| {
                !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
            })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// The process that runs in the terminal.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("fits"))
    }

    /// What runs in the terminal.
    pub(crate) fn processes(&self) -> Vec<Process> {
        processes::in_tree_of(self.child.id())
    }

    /// Waits for the end of the program.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the program in the terminal ends", || {
            self.child.try_wait().expect("waitable")
        })
    }
}

fn set_size(terminal: &File, (rows, columns): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("a terminal");
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let tree = self.processes();
        for process in &tree {
            let pid = Pid::from_raw(i32::try_from(process.pid).expect("fits"));
            if processes::alive(*process) {
                let _already_gone = kill(pid, Signal::SIGKILL);
            }
        }
        let _reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the screen\n{}", self.screen());
        } else {
            processes::until_gone(&tree);
        }
    }
}
