//! What is shown and what follows from what happens, without I/O.
//!
//! ```text
//!            Enter                     s, r                      y
//!  List ───────────────▶ Worker    ─────────▶ Prompt::Confirm ──────▶ Effect::Act
//!    ▲  ◀── Esc, anew ──┘               ◀── any other ──┘
//!    └── /, Esc, Enter ── Prompt::Filter             ?, any key ── Prompt::Help
//! ```

use std::time::{Duration, Instant};

use super::clean::Clean;
use super::counters::Counters;
use super::detail::{Detail, Following};
use super::key::{Input, Key};
use super::listing::{Kind, Listing, Subject, Worker};
use crate::admin::{StartRow, Status, SupervisorState, WorkerRow};
use crate::ids::WorkerId;

/// How long a notice is shown.
const NOTICE_FOR: Duration = Duration::from_secs(10);
/// How long an eviction counts for a limit that binds.
const EVICTED_LATELY: Duration = Duration::from_secs(60);
/// Most characters of a filter.
const MAX_FILTER: usize = 64;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Event {
    /// The terminal has something to say.
    Input(Input),
    /// stdiopool told how it is.
    Polled(Box<Status>, Vec<WorkerRow>),
    /// stdiopool told what it has counted.
    Counted(Counters),
    /// stdiopool did not answer, and why.
    Unanswered(String),
    /// An act was carried out, or was not, in words.
    Acted(Result<String, String>),
    /// About the worker that is looked at, as asked for with that number.
    Watched(u64, Watched),
}

/// What there is to tell of the worker that is looked at.
#[derive(Debug)]
pub(super) enum Watched {
    /// What it was started with.
    Start(StartRow),
    /// The worker wrote a line.
    Line(String),
    /// So many lines came too fast.
    Missed(String),
    /// The worker is gone; how it ended, where that is remembered.
    Over(Option<String>),
    /// What it writes cannot be followed, and why.
    Lost(String),
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// End.
    Quit,
    /// Give the terminal back and stop, until the shell goes on with this.
    Suspend,
    /// Draw all of the screen again, whatever has happened to it.
    Redraw,
    /// Tell of that worker, under that number, and of no other any more.
    Watch(WorkerId, u64),
    /// Tell of no worker any more.
    Unwatch,
    /// Carry that out.
    Act(Act, WorkerId),
}

/// What can be done to a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    /// Stop it, whatever it has in flight.
    Stop,
    /// Stop it when it has nothing in flight.
    Restart,
}

impl Act {
    /// The last part of the act's path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// What is asked in the last line, or stands above all else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Prompt {
    /// The filter is being typed; what it was before.
    Filter(String),
    /// Whether that is to be done.
    Confirm(Act, WorkerId),
    /// The keys are shown.
    Help,
}

/// The state of all that is shown.
#[derive(Debug)]
pub(super) struct Model {
    /// Where stdiopool is.
    pub(super) address: Clean,
    pub(super) status: Status,
    pub(super) counters: Counters,
    pub(super) workers: Vec<Worker>,
    pub(super) listing: Listing,
    pub(super) detail: Option<Detail>,
    pub(super) prompt: Option<Prompt>,
    /// Why nobody answers, since [`Self::heard`].
    pub(super) lost: Option<Clean>,
    /// When something was last heard.
    pub(super) heard: Instant,
    pub(super) now: Instant,
    notice: Option<(Instant, Clean)>,
    /// The limit by which a worker was evicted last, and when that was noticed.
    evicted: Option<(Instant, Clean)>,
    has_counted: bool,
    /// Rows of the terminal.
    height: u16,
    serial: u64,
}

impl Model {
    /// As it is at the beginning.
    pub(super) fn new(
        now: Instant,
        address: &str,
        status: Status,
        workers: Vec<WorkerRow>,
    ) -> Self {
        let mut model = Self {
            address: Clean::of(address),
            status,
            counters: Counters::default(),
            workers: vec![],
            listing: Listing::default(),
            detail: None,
            prompt: None,
            lost: None,
            heard: now,
            now,
            notice: None,
            evicted: None,
            has_counted: false,
            height: 24,
            serial: 0,
        };
        model.take_workers(workers);
        model
    }

    fn take_workers(&mut self, workers: Vec<WorkerRow>) {
        self.workers = workers.into_iter().map(Worker::from).collect();
        self.listing.rebuild(&self.workers);
    }

    /// Shows workers with these words only.
    pub(super) fn filter(&mut self, words: &str) {
        words
            .chars()
            .for_each(|c| add_to(&mut self.listing.filter, c));
        self.listing.rebuild(&self.workers);
    }

    /// Takes in what happened.
    pub(super) fn on(&mut self, now: Instant, event: Event, out: &mut Vec<Effect>) {
        self.now = now;
        match event {
            Event::Input(Input::Key(key)) => self.pressed(key, out),
            Event::Input(Input::Pasted(text)) => self.pasted(&text),
            Event::Input(Input::Resized(rows)) => self.height = rows,
            Event::Polled(status, workers) => self.polled(*status, workers, out),
            Event::Counted(counters) => self.counted(counters),
            Event::Unanswered(why) => self.lost = Some(Clean::of(&why)),
            Event::Acted(Ok(said) | Err(said)) => self.notice(&said),
            Event::Watched(serial, watched) => self.watched(serial, watched),
        }
    }

    /// What is to be read in the last line for a while.
    pub(super) fn current_notice(&self) -> Option<&Clean> {
        let (at, text) = self.notice.as_ref()?;
        (self.now.saturating_duration_since(*at) < NOTICE_FOR).then_some(text)
    }

    fn notice(&mut self, text: &str) {
        self.notice = Some((self.now, Clean::of(text)));
    }

    fn polled(&mut self, status: Status, workers: Vec<WorkerRow>, out: &mut Vec<Effect>) {
        let is_another = status.pid != self.status.pid;
        let was_lost = self.lost.take().is_some();
        self.heard = self.now;
        self.status = status;
        self.take_workers(workers);
        if is_another {
            // Workers of another supervisor have the numbers of others.
            self.close_detail(out);
            self.prompt = (self.prompt.take()).filter(|it| !matches!(it, Prompt::Confirm(..)));
            (self.has_counted, self.evicted) = (false, None);
            let process = self.status.pid;
            self.notice(&format!("stdiopool was started anew (process {process})"));
        } else if was_lost {
            self.notice("stdiopool answers again");
        }
        self.update_detail(out);
    }

    fn update_detail(&mut self, out: &mut Vec<Effect>) {
        let Some(detail) = &mut self.detail else {
            return;
        };
        let worker = self.workers.iter().find(|worker| worker.id == detail.id);
        if let Some(worker) = worker {
            detail.worker = Some(worker.clone());
        }
        if matches!(detail.following, Following::Lost(_)) {
            self.serial += 1;
            detail.begin_again(self.serial);
            out.push(Effect::Watch(detail.id, self.serial));
        }
    }

    fn counted(&mut self, counters: Counters) {
        let grown = counters.evictions.iter().find(|(reason, count)| {
            let before = self.counters.evictions.get(*reason);
            **count > before.copied().unwrap_or(0)
        });
        if let Some((reason, _)) = grown.filter(|_| self.has_counted) {
            self.evicted = Some((self.now, Clean::of(reason)));
        }
        self.has_counted = true;
        self.counters = counters;
    }

    fn watched(&mut self, serial: u64, watched: Watched) {
        let Some(detail) = self.detail.as_mut().filter(|it| it.serial == serial) else {
            return;
        };
        match watched {
            Watched::Start(row) => detail.start = Some(row.into()),
            Watched::Line(line) => detail.push(Clean::of(&line)),
            Watched::Missed(lines) => {
                let said = format!("({lines} lines came too fast and were left out)");
                detail.push(Clean::of(&said));
            }
            Watched::Over(how) => {
                detail.following = Following::Over(how.as_deref().map(Clean::of));
            }
            Watched::Lost(why) => detail.following = Following::Lost(Clean::of(&why)),
        }
    }

    /// The limit that keeps requests waiting, or that a start would run into.
    pub(super) fn limit_that_binds(&self) -> Binding {
        let (status, limits) = (&self.status, &self.status.limits);
        if status.state == SupervisorState::Draining {
            return Binding::Draining;
        }
        if let Some(wait) = &status.longest_wait {
            return Binding::Waits(Clean::of(&wait.message));
        }
        let is_late = |at: Instant| self.now.saturating_duration_since(at) < EVICTED_LATELY;
        if let Some((_, limit)) = self.evicted.as_ref().filter(|(at, _)| is_late(*at)) {
            return Binding::Evicts(limit.clone());
        }
        if status.workers.total() >= limits.max_workers {
            return Binding::Reached("pool.max_workers");
        }
        // Within a sixteenth: about what one worker more would take of a small pool.
        let near = limits.max_memory_bytes - limits.max_memory_bytes / 16;
        if limits.max_memory_bytes > 0 && status.memory_bytes >= near {
            return Binding::Reached("pool.max_memory");
        }
        Binding::None
    }

    /// The worker that keys are about: the one that is looked at, or the selected one.
    pub(super) fn current_worker(&self) -> Option<WorkerId> {
        match (&self.detail, self.listing.subject()) {
            (Some(detail), _) => Some(detail.id),
            (None, Some(Subject::Worker(id))) => Some(*id),
            (None, _) => None,
        }
    }

    /// What is known of a worker that lives.
    pub(super) fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.iter().find(|worker| worker.id == id)
    }

    fn pressed(&mut self, key: Key, out: &mut Vec<Effect>) {
        match key {
            Key::Ctrl('c') => return out.push(Effect::Quit),
            Key::Ctrl('z') => return out.push(Effect::Suspend),
            Key::Ctrl('l') => return out.push(Effect::Redraw),
            _ => {}
        }
        match self.prompt.take() {
            Some(Prompt::Filter(before)) => self.typed(key, before),
            Some(Prompt::Confirm(act, worker)) => match key {
                Key::Char('y' | 'Y') => out.push(Effect::Act(act, worker)),
                _ => self.notice("nothing was done"),
            },
            Some(Prompt::Help) => {}
            None => match key {
                Key::Char('q') => out.push(Effect::Quit),
                Key::Char('?' | 'h') => self.prompt = Some(Prompt::Help),
                Key::Char('s') => self.ask(Act::Stop),
                Key::Char('r') => self.ask(Act::Restart),
                _ if self.detail.is_some() => self.pressed_in_detail(key, out),
                _ => self.pressed_in_list(key, out),
            },
        }
    }

    /// Asks whether that is to be done to the current worker.
    fn ask(&mut self, act: Act) {
        match self.current_worker() {
            Some(worker) if self.worker(worker).is_some() => {
                self.prompt = Some(Prompt::Confirm(act, worker));
            }
            Some(worker) => self.notice(&format!("{worker} is gone")),
            None => self.notice("choose a worker first: Enter shows those of the selected row"),
        }
    }

    fn typed(&mut self, key: Key, before: String) {
        let filter = &mut self.listing.filter;
        match key {
            Key::Enter => return,
            Key::Escape => *filter = before,
            Key::Backspace => {
                filter.pop();
                self.prompt = Some(Prompt::Filter(before));
            }
            Key::Ctrl('u') => {
                filter.clear();
                self.prompt = Some(Prompt::Filter(before));
            }
            Key::Char(c) => {
                add_to(filter, c);
                self.prompt = Some(Prompt::Filter(before));
            }
            _ => self.prompt = Some(Prompt::Filter(before)),
        }
        self.listing.rebuild(&self.workers);
    }

    /// Pasted text goes where text is asked for, and nowhere else.
    fn pasted(&mut self, text: &str) {
        if matches!(self.prompt, Some(Prompt::Filter(_))) {
            self.filter(text);
        }
    }

    /// Rows by which a page is turned.
    fn page(&self) -> isize {
        isize::try_from(self.height / 2).unwrap_or(1).max(1)
    }

    fn pressed_in_list(&mut self, key: Key, out: &mut Vec<Effect>) {
        let page = self.page();
        match key {
            Key::Up | Key::Char('k') => self.listing.go(-1),
            Key::Down | Key::Char('j') => self.listing.go(1),
            Key::PageUp => self.listing.go(-page),
            Key::PageDown | Key::Char(' ') => self.listing.go(page),
            Key::Home | Key::Char('g') => self.listing.go_to_first(),
            Key::End | Key::Char('G') => self.listing.go_to_last(),
            Key::Left | Key::Char('<') => self.listing.sort_by_next(-1, &self.workers),
            Key::Right | Key::Char('>') => self.listing.sort_by_next(1, &self.workers),
            Key::Char('i') => self.listing.reverse(&self.workers),
            Key::Tab => self.listing.show(self.listing.kind.next(), &self.workers),
            Key::BackTab => {
                let kind = self.listing.kind.previous();
                self.listing.show(kind, &self.workers);
            }
            Key::Char('/') => self.prompt = Some(Prompt::Filter(self.listing.filter.clone())),
            Key::Escape => {
                self.listing.filter.clear();
                self.listing.rebuild(&self.workers);
            }
            Key::Enter => self.open(out),
            Key::Char(_) | Key::Ctrl(_) | Key::Backspace => {}
        }
    }

    /// Shows the worker of the selected row, or all workers of its server or tenant.
    fn open(&mut self, out: &mut Vec<Effect>) {
        match self.listing.subject().cloned() {
            Some(Subject::Worker(id)) => {
                self.serial += 1;
                let worker = self.worker(id).cloned();
                self.detail = Some(Detail::new(id, self.serial, worker));
                out.push(Effect::Watch(id, self.serial));
            }
            Some(Subject::Name(name)) => {
                let of = match self.listing.kind {
                    Kind::Tenants => "tenant",
                    Kind::Servers | Kind::Workers => "server",
                };
                self.listing.filter = format!("{of}:{name}");
                self.listing.show(Kind::Workers, &self.workers);
            }
            None => {}
        }
    }

    fn close_detail(&mut self, out: &mut Vec<Effect>) {
        if self.detail.take().is_some() {
            out.push(Effect::Unwatch);
        }
    }

    fn pressed_in_detail(&mut self, key: Key, out: &mut Vec<Effect>) {
        let page = self.page();
        let Some(detail) = &mut self.detail else {
            return;
        };
        match key {
            Key::Escape | Key::Left | Key::Backspace => self.close_detail(out),
            Key::Up | Key::Char('k') => detail.scroll(1),
            Key::Down | Key::Char('j') => detail.scroll(-1),
            Key::PageUp => detail.scroll(page),
            Key::PageDown | Key::Char(' ') => detail.scroll(-page),
            Key::Home | Key::Char('g') => detail.scroll(isize::MAX),
            Key::End | Key::Char('G') => detail.scroll(isize::MIN),
            _ => {}
        }
    }
}

/// Adds a character to a filter, as long as it is short and the character is one that can be shown.
fn add_to(filter: &mut String, c: char) {
    if !crate::escape::acts(c) && filter.chars().count() < MAX_FILTER {
        filter.push(c);
    }
}

/// The limit that binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Binding {
    /// No request waits, and no limit is near.
    None,
    /// stdiopool takes no new work.
    Draining,
    /// What the request that has waited for longest would be told.
    Waits(Clean),
    /// Idle workers were stopped for others lately, by that limit.
    Evicts(Clean),
    /// The pool has as much as that key allows.
    Reached(&'static str),
}
