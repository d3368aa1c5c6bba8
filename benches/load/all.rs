//! Everything, one after the other, with figures that end in sensible time.

use stdiopool::worker::memory::can_hibernate;

use super::bridging::{self, BridgingArgs};
use super::cold_start::{self, StartsArgs};
use super::density::{self, DensityArgs};
use super::large::{self, LargeArgs};
use super::launch::{self, LaunchArgs};
use super::process::is_on_path;
use super::report::Section;
use super::scale::{self, ScaleArgs};
use super::throughput::{self, BridgeArgs, LoadArgs};
use super::{Measurement, Result};

/// The measurements of a run; quick ones leave out what needs packages, and the largest sizes.
pub(crate) fn measurements(beside: BridgeArgs, is_quick: bool) -> Vec<Measurement> {
    let pick = |quick: u64, full: u64| if is_quick { quick } else { full };
    let load = LoadArgs {
        sessions: if is_quick {
            vec![1, 16]
        } else {
            vec![1, 16, 64]
        },
        seconds: pick(2, 5),
        bytes: 32,
        against: Vec::new(),
        beside,
    };
    let large = LargeArgs {
        bytes: 10_000_000,
        at_once: vec![1, 4],
        seconds: pick(1, 3),
    };
    let scale = ScaleArgs {
        sessions: if is_quick {
            vec![10, 1_000]
        } else {
            vec![10, 1_000, 10_000]
        },
        workers: if is_quick {
            vec![1, 10, 100]
        } else {
            vec![1, 10, 100, 1_000]
        },
        callers: 16,
        seconds: pick(2, 4),
    };
    let bridging = BridgingArgs {
        sessions: if is_quick { vec![16] } else { vec![1, 16] },
        seconds: pick(2, 4),
    };
    let starts = StartsArgs {
        count: if is_quick { 10 } else { 30 },
        command: Vec::new(),
    };
    vec![
        Measurement::new("load", move || throughput::run(&load)),
        Measurement::new("large", move || large::run(&large)),
        Measurement::new("scale", move || scale::run(&scale)),
        Measurement::new("bridging", move || bridging::run(&bridging)),
        Measurement::new("starts", move || cold_start::run(&starts)),
        Measurement::new("launch", move || packages(is_quick)),
        Measurement::new("density", move || tenants(is_quick)),
    ]
}

fn left_out(name: &'static str, why: impl Into<String>) -> Section {
    let mut section = Section::new(name, "not measured");
    section.note(why);
    section
}

fn packages(is_quick: bool) -> Result<Section> {
    if is_quick {
        return Ok(left_out("launch", "left out by --quick"));
    }
    if !is_on_path("npx") && !is_on_path("uvx") {
        return Ok(left_out("launch", "neither npx nor uvx is on PATH"));
    }
    launch::run(&LaunchArgs {
        count: 3,
        only: String::new(),
        sandbox: false,
        at_once: None,
    })
}

fn tenants(is_quick: bool) -> Result<Section> {
    if is_quick {
        return Ok(left_out("density", "left out by --quick"));
    }
    if let Err(why) = can_hibernate() {
        let why =
            format!("nothing sleeps on this host: {why}; `density` alone measures what is awake");
        return Ok(left_out("density", why));
    }
    if !is_on_path("npx") && !is_on_path("uvx") {
        return Ok(left_out("density", "neither npx nor uvx is on PATH"));
    }
    density::run(&DensityArgs {
        tenants: 5,
        only: None,
        // What it would be of all would take eight minutes.
        later: 0,
    })
}
