//! The table: workers, or what servers or tenants have of them; filtered, sorted, one row of it selected.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::clean::Clean;
use crate::admin::WorkerRow;
use crate::cli::table;
use crate::ids::WorkerId;
use crate::telemetry::labels::WorkerState;

/// A worker that lives.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) server: Clean,
    /// Whose worker it is; `-` of a spare.
    pub(super) tenant: Clean,
    pub(super) state: WorkerState,
    pub(super) pid: Option<u32>,
    pub(super) in_flight: usize,
    pub(super) is_pinned: bool,
    pub(super) requests: u64,
    /// Seconds.
    pub(super) age: f64,
    /// Seconds since its last request; `None` while one is in flight.
    pub(super) idle: Option<f64>,
    /// Bytes.
    pub(super) memory: Option<u64>,
    pub(super) stderr_lines: u64,
}

impl From<WorkerRow> for Worker {
    fn from(row: WorkerRow) -> Self {
        let tenant = Some(row.tenant.as_str()).filter(|tenant| !tenant.is_empty());
        Self {
            id: row.id,
            server: Clean::of(row.server.as_str()),
            tenant: Clean::of(tenant.unwrap_or("-")),
            state: row.state,
            pid: row.pid,
            in_flight: row.in_flight,
            is_pinned: row.pinned,
            requests: row.requests,
            age: row.age_seconds,
            idle: row.idle_seconds,
            memory: row.memory_bytes,
            stderr_lines: row.stderr_lines,
        }
    }
}

/// What a row is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Subject {
    /// One worker.
    Worker(WorkerId),
    /// All workers of the server or tenant of that name.
    Name(Clean),
}

/// A cell.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Worker(WorkerId),
    Text(Clean),
    State(WorkerState),
    Count(u64),
    /// Seconds, if there are any to be told.
    Age(Option<f64>),
    /// Bytes, if they are known.
    Size(Option<u64>),
}

impl Value {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Worker(a), Self::Worker(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::State(a), Self::State(b)) => a.as_str().cmp(b.as_str()),
            (Self::Count(a), Self::Count(b)) => a.cmp(b),
            (Self::Size(a), Self::Size(b)) => a.cmp(b),
            (Self::Age(a), Self::Age(b)) => {
                let seconds = |age: &Option<f64>| age.unwrap_or(-1.0);
                seconds(a).total_cmp(&seconds(b))
            }
            // A column has values of one kind.
            _ => Ordering::Equal,
        }
    }

    /// The cell for people.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Worker(id) => id.to_string(),
            Self::Text(text) => text.to_string(),
            Self::State(state) => state.as_str().to_owned(),
            Self::Count(count) => count.to_string(),
            Self::Age(None) | Self::Size(None) => "-".to_owned(),
            Self::Age(Some(seconds)) => table::age(*seconds),
            Self::Size(Some(bytes)) => table::size(*bytes),
        }
    }
}

/// A row.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Row {
    pub(super) subject: Subject,
    pub(super) values: Vec<Value>,
}

/// What the rows of the table are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Workers,
    Servers,
    Tenants,
}

/// What a column has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// Names, which may be long.
    Names,
    /// Words of stdiopool's own.
    Words,
    /// Numbers, of which the largest is above unless it is asked for otherwise.
    Numbers,
}

/// A column of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Column {
    pub(super) title: &'static str,
    /// Characters, one more than the title for the mark of the sorted column; of a name, the fewest: names share what is left.
    pub(super) width: u16,
    pub(super) content: Content,
    /// Columns with the highest number are left out first where the screen is narrow; those with 0 never.
    pub(super) dispensable: u8,
}

const fn column(title: &'static str, width: u16, content: Content, dispensable: u8) -> Column {
    Column {
        title,
        width,
        content,
        dispensable,
    }
}

const fn names(title: &'static str, width: u16) -> Column {
    column(title, width, Content::Names, 0)
}

const fn words(title: &'static str, width: u16) -> Column {
    column(title, width, Content::Words, 0)
}

const fn numbers(title: &'static str, width: u16, dispensable: u8) -> Column {
    column(title, width, Content::Numbers, dispensable)
}

const WORKERS: &[Column] = &[
    words("WORKER", 7),
    names("SERVER", 8),
    names("TENANT", 7),
    words("STATE", 10),
    numbers("IN-FLIGHT", 10, 2),
    numbers("REQUESTS", 9, 4),
    numbers("AGE", 6, 3),
    numbers("IDLE", 6, 5),
    numbers("MEMORY", 9, 1),
];
const SERVERS: &[Column] = &[
    names("SERVER", 12),
    numbers("WORKERS", 8, 0),
    numbers("BUSY", 6, 0),
    numbers("IN-FLIGHT", 10, 2),
    numbers("REQUESTS", 9, 1),
    numbers("MEMORY", 9, 0),
];
const TENANTS: &[Column] = &[
    names("TENANT", 12),
    numbers("WORKERS", 8, 0),
    numbers("BUSY", 6, 0),
    numbers("IN-FLIGHT", 10, 2),
    numbers("REQUESTS", 9, 1),
    numbers("MEMORY", 9, 0),
];

impl Kind {
    /// The one that follows.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Workers => Self::Servers,
            Self::Servers => Self::Tenants,
            Self::Tenants => Self::Workers,
        }
    }

    /// The one before.
    pub(super) fn previous(self) -> Self {
        self.next().next()
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Workers => WORKERS,
            Self::Servers => SERVERS,
            Self::Tenants => TENANTS,
        }
    }

    /// The column by which it is sorted at first: memory, its last.
    fn first_sort(self) -> usize {
        self.columns().len() - 1
    }
}

/// How the rows are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sort {
    /// The column's index.
    pub(super) column: usize,
    /// Against the order that the column has by itself: names from the first, numbers from the largest.
    pub(super) is_reversed: bool,
}

/// The table as it is shown.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) kind: Kind,
    /// Of workers, servers and tenants.
    sorts: [Sort; 3],
    /// Words that each row has to have.
    pub(super) filter: String,
    /// Sorted and filtered.
    pub(super) rows: Vec<Row>,
    /// Workers that the filter lets through.
    pub(super) workers: usize,
    /// The row that was chosen; `None`: the first, whichever that is.
    chosen: Option<Subject>,
    /// The index of the chosen row when that was last there.
    index: usize,
}

impl Default for Listing {
    fn default() -> Self {
        let sort = |kind: Kind| Sort {
            column: kind.first_sort(),
            is_reversed: false,
        };
        Self {
            kind: Kind::Workers,
            sorts: [Kind::Workers, Kind::Servers, Kind::Tenants].map(sort),
            filter: String::new(),
            rows: vec![],
            workers: 0,
            chosen: None,
            index: 0,
        }
    }
}

impl Listing {
    pub(super) fn sort(&self) -> Sort {
        self.sorts[self.kind as usize]
    }

    /// Whether the largest or last is above.
    pub(super) fn is_descending(&self) -> bool {
        let sort = self.sort();
        let column = self.kind.columns()[sort.column];
        (column.content == Content::Numbers) != sort.is_reversed
    }

    /// Makes the rows anew.
    pub(super) fn rebuild(&mut self, workers: &[Worker]) {
        let words: Vec<String> = (self.filter.split_whitespace())
            .map(str::to_lowercase)
            .collect();
        let meant = || workers.iter().filter(|worker| has_all(worker, &words));
        self.workers = meant().count();
        self.rows = match self.kind {
            Kind::Workers => meant().map(row_of).collect(),
            Kind::Servers => sums(meant(), |worker| &worker.server),
            Kind::Tenants => sums(meant(), |worker| &worker.tenant),
        };
        let sort = self.sort();
        let is_descending = self.is_descending();
        self.rows.sort_by(|a, b| {
            let by_value = a.values[sort.column].compare(&b.values[sort.column]);
            let by_value = if is_descending {
                by_value.reverse()
            } else {
                by_value
            };
            by_value.then_with(|| a.subject.cmp(&b.subject))
        });
        self.find_chosen();
    }

    /// The row that was chosen may be elsewhere now. If it is gone, the one in its place is taken.
    fn find_chosen(&mut self) {
        let Some(chosen) = &self.chosen else {
            self.index = 0;
            return;
        };
        let place = self.rows.iter().position(|row| row.subject == *chosen);
        match place {
            Some(place) => self.index = place,
            None => self.choose(self.index),
        }
    }

    fn choose(&mut self, index: usize) {
        self.index = index.min(self.rows.len().saturating_sub(1));
        let row = self.rows.get(self.index);
        // The first row is the first whatever comes.
        self.chosen = row
            .filter(|_| self.index > 0)
            .map(|row| row.subject.clone());
    }

    /// The index of the selected row.
    pub(super) fn selected(&self) -> Option<usize> {
        (self.index < self.rows.len()).then_some(self.index)
    }

    /// The subject of the selected row.
    pub(super) fn subject(&self) -> Option<&Subject> {
        self.selected().map(|index| &self.rows[index].subject)
    }

    /// Selects another row, so many further down or up.
    pub(super) fn go(&mut self, by: isize) {
        self.choose(self.index.saturating_add_signed(by));
    }

    pub(super) fn go_to_first(&mut self) {
        self.choose(0);
    }

    pub(super) fn go_to_last(&mut self) {
        self.choose(usize::MAX);
    }

    /// Shows another kind of rows, with the first selected.
    pub(super) fn show(&mut self, kind: Kind, workers: &[Worker]) {
        self.kind = kind;
        self.chosen = None;
        self.rebuild(workers);
    }

    /// Sorts by a neighbouring column.
    pub(super) fn sort_by_next(&mut self, by: isize, workers: &[Worker]) {
        let columns = self.kind.columns().len();
        let sort = &mut self.sorts[self.kind as usize];
        sort.column = sort.column.wrapping_add_signed(by).wrapping_add(columns) % columns;
        sort.is_reversed = false;
        self.rebuild(workers);
    }

    /// Sorts the other way round.
    pub(super) fn reverse(&mut self, workers: &[Worker]) {
        self.sorts[self.kind as usize].is_reversed ^= true;
        self.rebuild(workers);
    }
}

/// The rows that are on the screen, of so many around the selected one, which stands in their middle where it can.
pub(super) fn window(rows: usize, selected: usize, height: usize) -> std::ops::Range<usize> {
    let latest = rows.saturating_sub(height);
    let first = selected.saturating_sub(height / 2).min(latest);
    first..rows.min(first + height)
}

/// Whether each word is in the worker's server, tenant or state, or is its id. `server:NAME` and `tenant:NAME` are the whole name.
fn has_all(worker: &Worker, words: &[String]) -> bool {
    let server = worker.server.as_str().to_lowercase();
    let tenant = worker.tenant.as_str().to_lowercase();
    let id = worker.id.to_string();
    words.iter().all(|word| match word.split_once(':') {
        Some(("server", name)) => server == name,
        Some(("tenant", name)) => tenant == name,
        _ => {
            let is_in = |text: &str| text.contains(word.as_str());
            is_in(&server) || is_in(&tenant) || is_in(worker.state.as_str()) || id == *word
        }
    })
}

fn row_of(worker: &Worker) -> Row {
    Row {
        subject: Subject::Worker(worker.id),
        values: vec![
            Value::Worker(worker.id),
            Value::Text(worker.server.clone()),
            Value::Text(worker.tenant.clone()),
            Value::State(worker.state),
            Value::Count(worker.in_flight as u64),
            Value::Count(worker.requests),
            Value::Age(Some(worker.age)),
            Value::Age(worker.idle),
            Value::Size(worker.memory),
        ],
    }
}

/// What workers come to that have a name in common.
fn sums<'w>(
    workers: impl Iterator<Item = &'w Worker>,
    name: impl Fn(&Worker) -> &Clean,
) -> Vec<Row> {
    #[derive(Default)]
    struct Sum {
        workers: u64,
        busy: u64,
        in_flight: u64,
        requests: u64,
        memory: Option<u64>,
    }
    let mut sums = BTreeMap::<&Clean, Sum>::new();
    for worker in workers {
        let sum = sums.entry(name(worker)).or_default();
        sum.workers += 1;
        sum.busy += u64::from(worker.state == WorkerState::Busy);
        sum.in_flight += worker.in_flight as u64;
        sum.requests += worker.requests;
        if let Some(memory) = worker.memory {
            sum.memory = Some(sum.memory.unwrap_or(0).saturating_add(memory));
        }
    }
    let row = |(name, sum): (&Clean, Sum)| Row {
        subject: Subject::Name(name.clone()),
        values: vec![
            Value::Text(name.clone()),
            Value::Count(sum.workers),
            Value::Count(sum.busy),
            Value::Count(sum.in_flight),
            Value::Count(sum.requests),
            Value::Size(sum.memory),
        ],
    };
    sums.into_iter().map(row).collect()
}
