//! Which requests are recorded, and by which ids: whoever calls decides for its own traces, a ratio for those that begin here.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use super::super::trace_part::{Carrier, OwnSpans, TracePart};
use crate::protocol::{SpanId, TraceContext, TraceFlags, TraceId};

/// Decides as OpenTelemetry's `ParentBased(TraceIdRatioBased)` does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sampler {
    /// A trace whose id has a number below that is sampled.
    below: u64,
}

impl Sampler {
    /// Samples that share of the traces that begin here, 0 to 1.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of 2^63, which fits"
    )]
    pub(super) fn new(ratio: f64) -> Self {
        const ALL: u64 = 1 << 63;
        let below = (ratio.clamp(0.0, 1.0) * ALL as f64) as u64;
        Self { below }
    }

    fn samples(self, trace: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = trace.bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.below
    }

    /// The part of a trace that a request is which came with that context.
    pub(super) fn part(
        self,
        parent: Option<(TraceContext, Carrier)>,
        link: Option<TraceContext>,
    ) -> TracePart {
        let (trace, flags) = match &parent {
            Some((parent, _)) => (parent.trace, parent.flags),
            None => {
                let trace = random_trace();
                let flags = TraceFlags {
                    is_sampled: self.samples(trace),
                    is_random: true,
                };
                (trace, flags)
            }
        };
        let own = OwnSpans {
            request: random_span(),
            start: random_span(),
            call: random_span(),
        };
        TracePart::recorded(trace, flags, parent, link, own)
    }
}

thread_local! {
    /// Ids have to be different, not secret.
    static RANDOM: RefCell<SmallRng> = RefCell::new(SmallRng::seed_from_u64(seed()));
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since.unwrap_or_default().subsec_nanos();
        bytes[..4].copy_from_slice(&nanos.to_le_bytes());
    }
    u64::from_le_bytes(bytes)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    RANDOM.with_borrow_mut(|random| random.fill_bytes(&mut bytes));
    bytes
}

fn random_trace() -> TraceId {
    loop {
        if let Some(id) = TraceId::new(random()) {
            return id;
        }
    }
}

/// A new id of a span.
pub(super) fn random_span() -> SpanId {
    loop {
        if let Some(id) = SpanId::new(random()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_traces_that_begin_here_is_sampled() {
        let sampled = |ratio: f64| {
            let sampler = Sampler::new(ratio);
            (0..10_000)
                .filter(|_| sampler.part(None, None).is_sampled())
                .count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        let some = sampled(0.1);
        assert!((700..1_300).contains(&some), "{some}");
    }

    #[test]
    fn whoever_calls_decides_for_its_own_traces() {
        let context = |flags: &str| {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            TraceContext::parse(&text, Some("a=1")).expect("valid")
        };
        for (ratio, flags, is_sampled) in [(0.0, "01", true), (1.0, "00", false)] {
            let part = Sampler::new(ratio).part(Some((context(flags), Carrier::Message)), None);
            assert_eq!(part.is_sampled(), is_sampled);
            let told = part.for_worker().expect("a context of its own");
            assert_eq!(told.trace, context(flags).trace);
            assert_eq!(
                (told.flags, told.state),
                (context(flags).flags, Some("a=1".into()))
            );
            assert_ne!(told.span, context(flags).span);
        }
    }

    #[test]
    fn without_an_exporter_a_context_goes_on_as_it_came() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(text, None).expect("valid");
        let of_head = TracePart::passed_on(context.clone(), Carrier::Head);
        let of_message = TracePart::passed_on(context.clone(), Carrier::Message);
        assert_eq!(of_head.for_worker(), Some(context.clone()));
        // It stands in the message already.
        assert_eq!(of_message.for_worker(), None);
        assert_eq!(of_message.for_start(), Some(context));
        assert!(!of_head.is_sampled());
    }
}
