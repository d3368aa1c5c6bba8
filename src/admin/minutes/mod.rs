//! The last day, a point a minute, in memory that does not grow.
//!
//! ```text
//!  once a minute: Sample ──▶ Minutes: Ring of 1,440 points ── so many points are wanted ──▶ History, a column for each figure
//!                               └── the last few totals: what was counted of late
//! ```
//!
//! Pure: no clock, no I/O. Levels are as they were when the sample was taken, counts are those since the sample before.

mod columns;
mod point;
mod ring;

pub use columns::{Counts, History, Levels, MemoryColumns};
pub use point::{Point, Sample, Totalled};
pub use ring::{MINUTES, Minutes};
