//! The whole list of a worker's tools, as far as rules about them look at it (`bind`): read page by page, within bounds.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::bindings::{Tools, Verdict};
use super::tool_facts::{NAME, ToolFacts};
use crate::config::Bind;
use crate::held::Charge;
use crate::ids::ServerName;

/// Most pages of a list.
const MAX_PAGES: usize = 64;
/// Most tools of a list.
const MAX_TOOLS: usize = 2_000;
/// Most bytes of names that are kept of a list.
const MAX_BYTES: usize = 1 << 20;

/// Why a list cannot be read to its end.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// A page is none.
    #[error("page {0} has no list of `tools`")]
    NoList(usize),
    /// The cursor of the next page is no text.
    #[error("the list goes on, but the `nextCursor` of page {0} is no text")]
    OddCursor(usize),
    /// A page comes again.
    #[error("the list does not end: the `nextCursor` of page {0} was there before")]
    Endless(usize),
    /// There are too many.
    #[error("the list has more than {MAX_PAGES} pages")]
    Pages,
    /// There are too many.
    #[error("there are more than {MAX_TOOLS} tools")]
    Tools,
    /// The names are too long together.
    #[error("the names of tools and arguments take more than {MAX_BYTES} bytes")]
    TooLong,
}

/// The pages of a list that were read so far.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    tools: Tools,
    bytes: usize,
    pages: usize,
    cursors: HashSet<String>,
}

#[derive(Deserialize)]
struct Page {
    tools: Vec<Value>,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Value,
}

impl Pages {
    /// Takes in the result of the next page. Returns where the one after it begins, if there is one.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub(crate) fn take(&mut self, result: &str) -> Result<Option<String>, Unreadable> {
        self.pages += 1;
        let page: Page =
            serde_json::from_str(result).map_err(|_| Unreadable::NoList(self.pages))?;
        for tool in page.tools {
            // What has no name cannot be called.
            let Some(name) = tool.get("name").and_then(Value::as_str) else {
                continue;
            };
            let facts = ToolFacts::of(tool.get("inputSchema").unwrap_or(&Value::Null));
            let facts = match self.tools.get(name) {
                Some(known) => known.with(&facts),
                None => facts,
            };
            self.bytes += name.len() + NAME + facts.bytes();
            if self.bytes > MAX_BYTES {
                return Err(Unreadable::TooLong);
            }
            self.tools.insert(name.to_owned(), facts);
            if self.tools.len() > MAX_TOOLS {
                return Err(Unreadable::Tools);
            }
        }
        let next = match page.next_cursor {
            Value::Null => return Ok(None),
            // Some servers end their lists with an empty cursor.
            Value::String(cursor) if cursor.is_empty() => return Ok(None),
            Value::String(cursor) => cursor,
            _ => return Err(Unreadable::OddCursor(self.pages)),
        };
        if self.pages >= MAX_PAGES {
            return Err(Unreadable::Pages);
        }
        match self.cursors.insert(next.clone()) {
            true => Ok(Some(next)),
            false => Err(Unreadable::Endless(self.pages)),
        }
    }

    /// Bytes that the list takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The list, after its last page.
    pub(crate) fn whole(self, charge: Option<Charge>) -> ToolList {
        ToolList {
            tools: self.tools,
            read_at: Instant::now(),
            verdict: Mutex::default(),
            _charge: charge,
        }
    }
}

/// A whole list.
#[derive(Debug)]
pub(crate) struct ToolList {
    tools: Tools,
    read_at: Instant,
    /// The last verdict on the list, and the number of the pool.toml that it goes by.
    verdict: Mutex<Option<(u64, Arc<Verdict>)>>,
    _charge: Option<Charge>,
}

impl ToolList {
    /// The tools.
    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// When the list was read.
    pub(crate) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// What the rules of that server are worth with it; they are those of the pool.toml of that generation.
    pub(crate) fn verdict(
        &self,
        generation: u64,
        server: &ServerName,
        bind: &Bind,
    ) -> Arc<Verdict> {
        let known = self.verdict.lock().clone();
        if let Some((of, verdict)) = known
            && of == generation
        {
            return verdict;
        }
        let verdict = Arc::new(Verdict::on(server, bind, &self.tools));
        *self.verdict.lock() = Some((generation, Arc::clone(&verdict)));
        verdict
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(names: &[&str], next: Value) -> String {
        let tools: Vec<_> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({ "tools": tools, "nextCursor": next }).to_string()
    }

    #[test]
    fn a_list_is_read_to_its_end() {
        let mut pages = Pages::default();
        assert_eq!(
            pages.take(&page(&["a", "b"], json!("2"))),
            Ok(Some("2".to_owned()))
        );
        assert_eq!(
            pages.take(&page(&["b", "c"], json!("3"))),
            Ok(Some("3".to_owned()))
        );
        assert_eq!(pages.take(&page(&[], json!(""))), Ok(None));
        let list = pages.whole(None);
        let names: Vec<_> = list.tools().keys().collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn one_that_does_not_end_or_is_none_is_no_list() {
        let mut pages = Pages::default();
        assert_eq!(pages.take("{}"), Err(Unreadable::NoList(1)));
        assert_eq!(
            pages.take(&page(&["a"], json!(7))),
            Err(Unreadable::OddCursor(2))
        );
        assert_eq!(
            pages.take(&page(&["a"], json!("2"))),
            Ok(Some("2".to_owned()))
        );
        assert_eq!(
            pages.take(&page(&["a"], json!("2"))),
            Err(Unreadable::Endless(4))
        );
        let mut pages = Pages::default();
        let ends = (0..MAX_PAGES).map(|n| pages.take(&page(&["a"], json!(n.to_string()))));
        let ends: Vec<_> = ends.collect();
        assert!(ends[..MAX_PAGES - 1].iter().all(Result::is_ok));
        assert_eq!(ends[MAX_PAGES - 1], Err(Unreadable::Pages));
        let names: Vec<_> = (0..=MAX_TOOLS).map(|n| format!("t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(
            Pages::default().take(&page(&names, Value::Null)),
            Err(Unreadable::Tools)
        );
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(
            Pages::default().take(&page(&[&long], Value::Null)),
            Err(Unreadable::TooLong)
        );
    }
}
