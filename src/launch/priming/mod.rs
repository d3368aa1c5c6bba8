//! Which starts of Python packages are primed: forked from a template that has imported the package's libraries already.
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
//! Pure: without clock and I/O. `upstream::templates` carries it out; `worker::guardian::templates` has the processes.
//!
//! Invariants: a version that is barred stays so while stdiopool runs; of one version there is one template at most; there are
//! [`MAX_TEMPLATES`] at the most.

mod obstacle;
mod report;
mod templates;

pub use obstacle::{NativeVariable, Obstacle, locale_of, obstacle};
pub use report::{NoTemplate, Report};
pub use templates::{Barred, MAX_TEMPLATES, Phase, TemplateKey, TemplateView, Templates, UNUSED};
