//! Decides which starts of packages are primed. A Python worker is forked from a template that has imported the package's libraries; a node worker
//! is a process that has imported them and waited. Such a process counts as a template here, which is gone once it was used.
//!
//! ```text
//!            an ordinary start has succeeded                 its report
//!  Absent ───────────────────────────────────▶ Starting ─────────────────▶ Ready ── used ──▶ Ready
//!    ▲                                            │ ended, cannot            │
//!    │                                            ▼                          ├── a primed start failed ──▶ Barred
//!    │                                          Barred                       ├── ended, for the third time ──▶ Barred
//!    └──────────────── gone ◀── Stopping ◀── unused, memory is short, ───────┤
//!                                            nobody has that version         └── ended ──▶ Absent
//! ```
//!
//! Pure: without clock and I/O. `upstream::templates` and `upstream::waiting` carry it out; `worker::guardian` has the processes.
//!
//! Invariants: a version that is barred stays so while stdiopool runs; of one version there is one template at most; there are
//! [`MAX_TEMPLATES`] at the most.

mod obstacle;
mod report;
mod templates;

pub use obstacle::{Interpreter, NativeVariable, Obstacle, obstacle, read_at_start};
pub use report::{NoTemplate, Report};
pub use templates::{Barred, MAX_TEMPLATES, Phase, TemplateKey, TemplateView, Templates, UNUSED};
