//! The terminal: taken over, drawn on, and given back as it was, however the program ends.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use ratatui::crossterm::execute;
use ratatui::crossterm::style::ResetColor;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};

use crate::cli::CliError;

/// Whether the terminal is taken over.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// # Errors
/// When standard input or output is no terminal, or one that knows no escape sequences.
pub(super) fn check_terminal() -> Result<(), CliError> {
    let what = if !io::stdout().is_terminal() {
        "standard output is none"
    } else if !io::stdin().is_terminal() {
        "standard input is none"
    } else if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        "TERM says that this one cannot be drawn on (dumb)"
    } else {
        return Ok(());
    };
    Err(CliError::NoTerminal { what })
}

/// The terminal, taken over until this is dropped.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// When it cannot be; it is given back then.
    pub(super) fn take() -> io::Result<Self> {
        give_back_at_a_panic();
        take_over().inspect_err(|_| give_back())?;
        // A frame is one write.
        let backend = CrosstermBackend::new(BufWriter::with_capacity(1 << 16, io::stdout()));
        match Terminal::new(backend) {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Rows of the terminal.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn rows(&self) -> io::Result<u16> {
        Ok(self.terminal.size()?.height)
    }

    /// Draws what has changed since the last frame.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn draw(&mut self, render: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(render)?;
        Ok(())
    }

    /// Takes the terminal over again, whatever others have done to it; all of it is drawn with the next frame.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(super) fn take_again(&mut self) -> io::Result<()> {
        give_back();
        take_over()?;
        // Not `clear`, which asks the terminal where its cursor is, and would wait for the thread that reads keys.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from(size))
    }

    /// Gives the terminal back for a while, until [`Self::take_again`].
    pub(super) fn lend(&mut self) {
        give_back();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take_over() -> io::Result<()> {
    IS_TAKEN.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
}

/// Gives the terminal back, if it is taken. There is nobody to tell when that fails.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut stdout = io::stdout();
    let _gone = execute!(
        stdout,
        ResetColor,
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _gone = stdout.flush();
    let _gone = disable_raw_mode();
}

/// What a panic says is to be read on the terminal as it was, and not on the screen that goes.
fn give_back_at_a_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let say = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            say(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::num::NonZeroU16;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::{Command, Stdio};

    use nix::libc::O_NOCTTY;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

    use super::*;

    #[test]
    #[ignore = "the other test runs it, in a terminal of its own"]
    fn panics_with_the_terminal_taken() {
        let mut screen = Screen::take().expect("a terminal");
        let draw = screen.draw(|frame| frame.render_widget("what is drawn", frame.area()));
        draw.expect("a terminal");
        panic!("no reason at all");
    }

    #[test]
    fn a_panic_is_read_on_the_terminal_as_it_was() {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let (rows, columns) = (24, 100);
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let mut options = File::options();
        options.read(true).write(true).custom_flags(O_NOCTTY);
        let slave = options.open(name.to_str().expect("ASCII")).expect("opens");
        let modes = || tcgetattr(&slave).expect("a terminal").local_modes;
        let before = modes();
        let mut master = File::from(master);
        let reader = std::thread::spawn(move || {
            let (mut all, mut buffer) = (vec![], [0; 4096]);
            while let Ok(n @ 1..) = master.read(&mut buffer) {
                all.extend_from_slice(&buffer[..n]);
            }
            all
        });
        let end = || Stdio::from(slave.try_clone().expect("one more"));
        let test = "cli::top::screen::tests::panics_with_the_terminal_taken";
        let status = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(std::env::current_exe().expect("known"))
            .args(["--ignored", "--exact", test, "--nocapture"])
            .env("TERM", "xterm-256color")
            // A backtrace would scroll away what is looked for.
            .env("RUST_BACKTRACE", "0")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .status();
        assert_eq!(status.expect("setsid of util-linux").code(), Some(101));
        assert_eq!(modes(), before);
        drop(slave);
        let written = reader.join().expect("no panic");
        let size = |n| NonZeroU16::new(n).expect("not nothing");
        let mut terminal = vt100::Parser::new(size(rows), size(columns), 0);
        terminal.process(&written);
        let screen = terminal.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(!screen.bracketed_paste());
        let shown = screen.contents();
        assert!(shown.contains("no reason at all"), "{shown}");
        assert!(!shown.contains("what is drawn"), "{shown}");
        // Blanks that were there are not drawn.
        let drawn = b"drawn";
        assert!(written.windows(drawn.len()).any(|it| it == drawn));
    }
}
