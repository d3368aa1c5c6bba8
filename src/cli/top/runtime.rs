//! Terminal, admin API and model, brought together.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ratatui::crossterm::event;
use tokio::sync::Notify;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::feed;
use super::key::Input;
use super::model::{Effect, Event, Model};
use super::screen::Screen;
use super::signals::{Asked, Signals, stop_this_process};
use super::theme::Theme;
use super::view;
use crate::cli::CliError;
use crate::cli::client::AdminClient;

/// Events that wait; whoever has more waits.
const MAX_EVENTS: usize = 256;
/// Keys that wait.
const MAX_KEYS: usize = 64;
/// Events that are taken in between two looks at the keys.
const AT_ONCE: usize = 256;
/// Between frames, unless a key was pressed.
const FRAME: Duration = Duration::from_millis(250);
/// Between frames of keys.
const FRAME_OF_KEYS: Duration = Duration::from_millis(30);

/// How it came to its end.
enum End {
    /// A key said so.
    Asked,
    /// A signal said so.
    Signalled,
}

/// All that runs.
struct Runtime {
    client: Arc<AdminClient>,
    model: Model,
    screen: Screen,
    theme: Theme,
    events: Sender<Event>,
    refresh: Arc<Notify>,
    tasks: JoinSet<()>,
    /// Tells of the worker that is looked at.
    watcher: Option<AbortHandle>,
    last_frame: Option<Instant>,
    /// When the next frame is due, if anything has changed.
    due: Option<Instant>,
}

/// Shows the model until a key or a signal ends that. The terminal is given back before this returns.
///
/// # Errors
/// When the terminal cannot be had or is gone, or a signal ends it.
pub(super) async fn run(client: AdminClient, model: Model) -> Result<(), CliError> {
    let (events, mut heard) = mpsc::channel(MAX_EVENTS);
    let mut signals = Signals::take().map_err(CliError::Terminal)?;
    let mut runtime = Runtime {
        client: Arc::new(client),
        model,
        screen: Screen::take().map_err(CliError::Terminal)?,
        theme: Theme::of_environment(),
        events,
        refresh: Arc::default(),
        tasks: JoinSet::new(),
        watcher: None,
        last_frame: None,
        due: Some(Instant::now()),
    };
    let mut keys = read_keys().map_err(CliError::Terminal)?;
    let ended = runtime.live(&mut heard, &mut keys, &mut signals).await;
    drop(runtime);
    match ended.map_err(CliError::Terminal)? {
        End::Asked => Ok(()),
        End::Signalled => Err(CliError::Interrupted),
    }
}

/// What the terminal says, read by a thread of its own, which ends with the process: a read cannot be called off.
fn read_keys() -> io::Result<Receiver<io::Result<Input>>> {
    let (tell, keys) = mpsc::channel(MAX_KEYS);
    let read = move || {
        loop {
            let input = match event::read() {
                Ok(event) => Input::of(event).map(Ok),
                Err(error) => Some(Err(error)),
            };
            if let Some(input) = input {
                let is_over = input.is_err();
                if tell.blocking_send(input).is_err() || is_over {
                    return;
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("keys".to_owned());
    let _until_the_end = thread.spawn(read)?;
    Ok(keys)
}

/// Something that the loop wakes for.
enum Woken {
    Input(Option<io::Result<Input>>),
    Signal(Asked),
    Event(Option<Event>),
    Ended(Result<(), JoinError>),
    Frame,
}

impl Runtime {
    async fn live(
        &mut self,
        heard: &mut Receiver<Event>,
        keys: &mut Receiver<io::Result<Input>>,
        signals: &mut Signals,
    ) -> io::Result<End> {
        let poll = feed::poll(
            Arc::clone(&self.client),
            self.events.clone(),
            Arc::clone(&self.refresh),
        );
        self.tasks.spawn(poll);
        let rows = self.screen.rows()?;
        self.take_in(Event::Input(Input::Resized(rows)))?;
        loop {
            let due = self.due.unwrap_or_else(Instant::now);
            let woken = tokio::select! {
                biased;
                asked = signals.next() => Woken::Signal(asked),
                () = sleep_until(due), if self.due.is_some() => Woken::Frame,
                input = keys.recv() => Woken::Input(input),
                Some(ended) = self.tasks.join_next() => Woken::Ended(ended),
                event = heard.recv() => Woken::Event(event),
            };
            let ended = match woken {
                Woken::Signal(Asked::End) => Some(End::Signalled),
                Woken::Signal(Asked::Suspend) => {
                    self.suspend()?;
                    None
                }
                Woken::Signal(Asked::Continue) => {
                    self.screen.take_again()?;
                    self.draw()?;
                    None
                }
                Woken::Input(Some(input)) => self.typed(input?, keys)?,
                // The thread that reads has told of an error before.
                Woken::Input(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Woken::Ended(ended) => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        std::panic::resume_unwind(error.into_panic());
                    }
                    None
                }
                Woken::Frame => {
                    self.draw()?;
                    None
                }
                Woken::Event(event) => {
                    let more = std::iter::from_fn(|| heard.try_recv().ok()).take(AT_ONCE);
                    let events: Vec<_> = event.into_iter().chain(more).collect();
                    for event in events {
                        self.take_in(event)?;
                    }
                    self.due_within(FRAME);
                    None
                }
            };
            if let Some(ended) = ended {
                return Ok(ended);
            }
        }
    }

    /// Takes in what was typed, with all that was typed since.
    fn typed(
        &mut self,
        input: Input,
        keys: &mut Receiver<io::Result<Input>>,
    ) -> io::Result<Option<End>> {
        let more = std::iter::from_fn(|| keys.try_recv().ok());
        let inputs: io::Result<Vec<_>> = std::iter::once(Ok(input)).chain(more).collect();
        for input in inputs? {
            if let Some(end) = self.take_in(Event::Input(input))? {
                return Ok(Some(end));
            }
        }
        self.due_within(FRAME_OF_KEYS);
        Ok(None)
    }

    /// The next frame comes so long after the last one, or sooner if that was said already.
    fn due_within(&mut self, time: Duration) {
        let due = self
            .last_frame
            .map_or_else(Instant::now, |last| last + time);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    fn draw(&mut self) -> io::Result<()> {
        (self.due, self.last_frame) = (None, Some(Instant::now()));
        let (model, theme) = (&self.model, self.theme);
        self.screen.draw(|frame| view::render(frame, model, theme))
    }

    /// Tells the model, and does what follows.
    fn take_in(&mut self, event: Event) -> io::Result<Option<End>> {
        if matches!(event, Event::Acted(_)) {
            self.refresh.notify_one();
        }
        let mut effects = vec![];
        let now = Instant::now().into_std();
        self.model.on(now, event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Quit => return Ok(Some(End::Asked)),
                Effect::Suspend => self.suspend()?,
                Effect::Redraw => {
                    self.screen.take_again()?;
                    self.draw()?;
                }
                Effect::Watch(worker, serial) => {
                    self.unwatch();
                    let client = Arc::clone(&self.client);
                    let watch = feed::watch(client, worker, serial, self.events.clone());
                    self.watcher = Some(self.tasks.spawn(watch));
                }
                Effect::Unwatch => self.unwatch(),
                Effect::Act(act, worker) => {
                    let client = Arc::clone(&self.client);
                    let act = feed::act(client, act, worker, self.events.clone());
                    self.tasks.spawn(act);
                }
            }
        }
        Ok(None)
    }

    fn unwatch(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
    }

    /// Stops with the terminal as it was, and goes on where it was.
    fn suspend(&mut self) -> io::Result<()> {
        self.screen.lend();
        let stopped = stop_this_process();
        self.screen.take_again()?;
        self.draw()?;
        stopped.map_err(io::Error::from)
    }
}
