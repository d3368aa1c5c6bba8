//! Which rows of an overview are asked for.

use serde::Deserialize;

/// Most rows of a list that may be asked for.
pub const MAX_LIMIT: usize = 100;
/// Rows of a list when `limit` is not given.
const DEFAULT_LIMIT: usize = 20;
/// Longest search, in bytes.
const MAX_SEARCH: usize = 200;

/// What rows are ranked by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Processor time.
    #[default]
    Cpu,
    /// Memory, awake and asleep.
    Memory,
    /// Live workers; of workers, requests.
    Workers,
    /// Requests that are not answered.
    InFlight,
    /// Requests that wait; of workers, those that are not answered.
    Queued,
    /// Calls a minute; of workers, requests.
    Calls,
    /// Errors a minute; of workers, requests that are not answered.
    Errors,
    /// Names, from a to z; of workers, their ids.
    Name,
}

impl Sort {
    const WORDS: [(&'static str, Self); 8] = [
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("workers", Self::Workers),
        ("in_flight", Self::InFlight),
        ("queued", Self::Queued),
        ("calls", Self::Calls),
        ("errors", Self::Errors),
        ("name", Self::Name),
    ];

    /// The order of that name; `None` if there is none.
    fn of(word: &str) -> Option<Self> {
        let mut all = Self::WORDS.iter();
        all.find_map(|(own, sort)| (*own == word).then_some(*sort))
    }
}

/// The rows that are asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct OverviewQuery {
    /// Of that tenant.
    pub tenant: Option<String>,
    /// Of that server.
    pub server: Option<String>,
    /// In whose names all of these words are, in lower case.
    pub words: Vec<String>,
    /// The order.
    pub sort: Sort,
    /// Rows of each list at the most.
    pub limit: usize,
}

impl Default for OverviewQuery {
    fn default() -> Self {
        Self {
            tenant: None,
            server: None,
            words: vec![],
            sort: Sort::default(),
            limit: DEFAULT_LIMIT,
        }
    }
}

/// The parameters as they come.
#[derive(Clone, Default, Debug, Deserialize)]
pub(in crate::admin) struct Parameters {
    tenant: Option<String>,
    server: Option<String>,
    search: Option<String>,
    sort: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    pub(in crate::admin) follow: bool,
}

impl TryFrom<Parameters> for OverviewQuery {
    type Error = String;

    fn try_from(given: Parameters) -> Result<Self, String> {
        let sort = match given.sort.as_deref() {
            None => Sort::default(),
            Some(word) => Sort::of(word).ok_or_else(|| {
                let words = Sort::WORDS.map(|(word, _)| word).join(", ");
                format!("`sort` is one of {words}, not `{word}`")
            })?,
        };
        let limit = given.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(format!("`limit` is 1 to {MAX_LIMIT}, not {limit}"));
        }
        let search = given.search.unwrap_or_default();
        if search.len() > MAX_SEARCH {
            let long = search.len();
            return Err(format!(
                "`search` has at most {MAX_SEARCH} bytes, not {long}"
            ));
        }
        let some = |name: Option<String>| name.filter(|name| !name.is_empty());
        Ok(Self {
            tenant: some(given.tenant),
            server: some(given.server),
            words: search
                .split_whitespace()
                .map(str::to_ascii_lowercase)
                .collect(),
            sort,
            limit,
        })
    }
}

impl OverviewQuery {
    /// Whether a row of that tenant and server is asked for; `None`: the row is of none in particular.
    pub(super) fn is_of(&self, tenant: Option<&str>, server: Option<&str>) -> bool {
        let is_it = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        is_it(&self.tenant, tenant) && is_it(&self.server, server)
    }

    /// Whether each of the words is in one of the names.
    pub(super) fn is_found_in(&self, names: &[&str]) -> bool {
        let is_in = |word: &String| names.iter().any(|name| contains(name, word));
        self.words.iter().all(is_in)
    }
}

/// Whether the word, in lower case, is in the text, whatever its letters' case is.
fn contains(text: &str, word: &str) -> bool {
    let (text, word) = (text.as_bytes(), word.as_bytes());
    word.is_empty()
        || text
            .windows(word.len())
            .any(|part| part.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_bounded_and_what_is_wrong_is_said() {
        let read = |given: Parameters| OverviewQuery::try_from(given);
        assert_eq!(read(Parameters::default()), Ok(OverviewQuery::default()));
        let query = read(Parameters {
            tenant: Some(String::new()),
            server: Some("git".into()),
            search: Some("  Acme W4 ".into()),
            sort: Some("in_flight".into()),
            limit: Some(100),
            follow: true,
        })
        .expect("all is right");
        assert_eq!(query.words, ["acme", "w4"]);
        assert_eq!((query.sort, query.limit), (Sort::InFlight, 100));
        assert_eq!((query.tenant, query.server), (None, Some("git".into())));
        let limit = |limit| Parameters {
            limit: Some(limit),
            ..Parameters::default()
        };
        let sort = Parameters {
            sort: Some("age".into()),
            ..Parameters::default()
        };
        let search = Parameters {
            search: Some("x".repeat(MAX_SEARCH + 1)),
            ..Parameters::default()
        };
        for wrong in [limit(0), limit(101), sort, search] {
            let said = read(wrong).expect_err("refused");
            assert!(said.starts_with('`'), "{said}");
        }
    }

    #[test]
    fn words_are_looked_for_in_all_names_of_a_row() {
        let query = OverviewQuery {
            words: vec!["acme".into(), "git".into()],
            ..OverviewQuery::default()
        };
        assert!(query.is_found_in(&["w1", "ACME-inc", "github"]));
        assert!(!query.is_found_in(&["w1", "acme", "search"]));
        assert!(OverviewQuery::default().is_found_in(&[]));
        assert!(query.is_of(None, Some("x")));
    }
}
