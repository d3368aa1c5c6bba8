//! What a run found: sections of tables, rendered for a terminal, as Markdown and as JSON.
//!
//! A measurement returns a [`Section`] and prints nothing. A number is kept as it was measured; its
//! column says the unit and how many decimals are shown.

mod json;
mod markdown;
mod terminal;

pub(crate) use json::json;
pub(crate) use markdown::{markdown, markdown_head};
pub(crate) use terminal::{terminal, terminal_head};

/// What the figures depend on, in the order in which it is shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts(pub(crate) Vec<Fact>);

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// Its key in JSON.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) value: Cell,
    pub(crate) unit: &'static str,
}

impl Fact {
    fn shown(&self) -> String {
        let is_whole = matches!(self.value, Cell::Number(number) if number.fract() == 0.0);
        let value = self.value.shown(usize::from(!is_whole));
        format!("{value} {}", self.unit).trim_end().to_owned()
    }
}

/// What one measurement gave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    /// The subcommand.
    pub(crate) name: &'static str,
    pub(crate) title: String,
    /// What was measured and how, and why something was not.
    pub(crate) notes: Vec<String>,
    pub(crate) tables: Vec<Table>,
    /// What failed; the tables have the rest.
    pub(crate) failures: Vec<String>,
}

impl Section {
    pub(crate) fn new(name: &'static str, title: impl Into<String>) -> Self {
        Self {
            name,
            title: title.into(),
            ..Self::default()
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// Rows under titled columns.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new(title: &'static str, columns: impl Into<Vec<Column>>) -> Self {
        Self {
            title,
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has not a cell for each column.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let cells = cells.into();
        assert_eq!(cells.len(), self.columns.len(), "of {}", self.title);
        self.rows.push(cells);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A column of texts or of numbers of one unit.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// Empty for a text, a count or a ratio.
    pub(crate) unit: &'static str,
    decimals: usize,
    is_number: bool,
}

impl Column {
    pub(crate) const fn text(title: &'static str) -> Self {
        Self {
            title,
            unit: "",
            decimals: 0,
            is_number: false,
        }
    }

    pub(crate) const fn number(title: &'static str, unit: &'static str, decimals: usize) -> Self {
        Self {
            title,
            unit,
            decimals,
            is_number: true,
        }
    }

    /// The title with the unit.
    fn heading(&self) -> String {
        let Self { title, unit, .. } = self;
        if unit.is_empty() {
            (*title).to_owned()
        } else {
            format!("{title}, {unit}")
        }
    }

    /// The title as a key of JSON.
    fn key(&self) -> String {
        let words = self.title.split(|c: char| !c.is_alphanumeric());
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        words.join("_").to_lowercase()
    }
}

/// What is in a row under a column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Text(String),
    Number(f64),
    /// Not measured, or not to be measured.
    Missing,
}

impl Cell {
    /// As it is shown; a number that is none (0 of 0) as a missing one.
    fn shown(&self, decimals: usize) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) if number.is_finite() => grouped(*number, decimals),
            Self::Number(_) | Self::Missing => "-".to_owned(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Number(count as f64)
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        number.map_or(Self::Missing, Self::Number)
    }
}

/// With commas between thousands.
pub(crate) fn grouped(number: f64, decimals: usize) -> String {
    let plain = format!("{:.decimals$}", number.abs());
    let (whole, rest) = plain.split_at(plain.find('.').unwrap_or(plain.len()));
    let mut shown = String::new();
    // -0.0 and what rounds to it have no sign.
    if number < 0.0 && plain.contains(|c: char| c.is_ascii_digit() && c != '0') {
        shown.push('-');
    }
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown + rest
}
