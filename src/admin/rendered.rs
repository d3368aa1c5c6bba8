//! Overviews as they are sent, kept as long as their frame is the latest.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use super::overview::{Frame, Overview, OverviewQuery};
use crate::escape;

/// Answers to different queries that are kept of one frame.
const MAX_KEPT: usize = 16;

/// Answers as they are sent, of the latest frame: those who ask the same get the same.
#[derive(Debug, Default)]
pub(super) struct Rendered(Mutex<Option<Kept>>);

/// Of which frame, which is not kept for it, and the answers by what was asked.
type Kept = (Weak<Frame>, FxHashMap<OverviewQuery, Bytes>);

impl Rendered {
    /// The overview of that frame that is asked for, as JSON.
    ///
    /// # Errors
    /// A value that cannot be written as JSON.
    pub(super) fn get(
        &self,
        frame: &Arc<Frame>,
        query: &OverviewQuery,
    ) -> Result<Bytes, serde_json::Error> {
        let mut latest = self.0.lock();
        let kept = match &mut *latest {
            Some((of, kept)) if std::ptr::eq(of.as_ptr(), Arc::as_ptr(frame)) => kept,
            other => {
                &mut other
                    .insert((Arc::downgrade(frame), FxHashMap::default()))
                    .1
            }
        };
        if let Some(json) = kept.get(query) {
            return Ok(json.clone());
        }
        let json = serde_json::to_string(&Overview::of(frame, query))?;
        let json = Bytes::from(escape::in_json(&json).into_owned());
        if kept.len() < MAX_KEPT {
            kept.insert(query.clone(), json.clone());
        }
        Ok(json)
    }
}
