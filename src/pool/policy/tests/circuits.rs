//! Circuits: what is told of them, and whose failures count.

use super::*;
use crate::pool::policy::{CircuitChange, CircuitTransition};

impl Bench {
    fn changes(&self) -> Vec<CircuitChange> {
        let changes = self.said.iter().filter_map(|action| match action {
            Action::Circuit(change) => Some((**change).clone()),
            _ => None,
        });
        changes.collect()
    }

    /// A start of that key that fails; what is told of circuits.
    fn fails(&mut self, n: u8, facts: &KeyFacts) -> Vec<CircuitChange> {
        self.want_of(n, facts, 0);
        while self.started().is_none() {
            self.now = self.policy.next_deadline().expect("again");
            self.tell(Event::Tick);
        }
        let id = self.started().expect("started");
        self.tell(Event::StartFailed(
            id,
            StartFailure::Failed("no luck".into()),
        ));
        let changes = self.changes();
        self.gone(id);
        changes
    }
}

#[test]
fn a_circuit_is_told_once_when_it_opens_and_once_when_it_closes() {
    let mut bench = Bench::new(limits(8));
    assert_eq!(bench.fails(1, &facts("a")), []);
    assert_eq!(bench.fails(2, &facts("a")), []);
    let opened = bench.fails(3, &facts("a"));
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!(opened[0].of, CircuitOf::Tenant(TenantId::new("a")));
    let CircuitTransition::Opens { failing, last, .. } = &opened[0].transition else {
        panic!("{opened:?}");
    };
    assert_eq!(
        (*failing, last),
        (3, &StartFailure::Failed("no luck".into()))
    );
    // Half open, and open again: nothing new.
    bench.after(37.0);
    assert_eq!(bench.fails(1, &facts("a")), []);
    bench.want(4, "b");
    let id = bench.started().expect("another's");
    bench.tell(Event::Ready(id));
    let closed = bench.changes();
    assert_eq!(
        closed,
        [CircuitChange {
            server: ServerName::new("s"),
            of: CircuitOf::Tenant(TenantId::new("a")),
            transition: CircuitTransition::Closes,
        }]
    );
}

#[test]
fn a_configuration_that_fails_again_and_again_is_told_too() {
    let mut bench = Bench::new(PoolLimits {
        refuse_after: 3,
        ..limits(8)
    });
    assert_eq!(bench.fails(1, &facts("a")), []);
    assert_eq!(bench.fails(1, &facts("a")), []);
    let opened = bench.fails(1, &facts("a"));
    assert_eq!(
        opened[0].of,
        CircuitOf::Configuration(TenantId::new("a")),
        "{opened:?}"
    );
    assert!(matches!(
        opened[0].transition,
        CircuitTransition::Opens { failing: 3, .. }
    ));
    let refused = bench.want(1, "a");
    let refusal = bench.refusal(refused).expect("at once");
    assert!(matches!(
        refusal,
        Refusal::CircuitOpen {
            of: CircuitOf::Configuration(_),
            failures: 3,
            ..
        }
    ));
    bench.after(6.0);
    bench.want(1, "a");
    let id = bench.started().expect("tried again");
    bench.tell(Event::Ready(id));
    bench.release(id);
    let closed = bench.changes();
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(closed[0].transition, CircuitTransition::Closes);
}

#[test]
fn what_a_caller_sets_is_held_against_that_alone() {
    let mut bench = Bench::new(limits(8));
    let callers = KeyFacts {
        caller_configured: true,
        ..facts("a")
    };
    for n in 1..=5 {
        assert_eq!(bench.fails(n, &callers), []);
    }
    assert_eq!(bench.policy.open_circuits(bench.now).count(), 0);
    assert!(
        !bench
            .policy
            .is_failing(&ServerName::new("s"), &TenantId::new("a"))
    );
    bench.want(6, "a");
    let own = bench.started().expect("the tenant's own");
    bench.fail(own);
    let (server, tenant) = (ServerName::new("s"), TenantId::new("a"));
    assert!(bench.policy.is_failing(&server, &tenant));
    assert!(!bench.policy.is_failing(&server, &TenantId::new("b")));
    // A crash right after the start is no different.
    bench.want_of(7, &callers, 0);
    let id = bench.started().expect("started");
    bench.tell(Event::Ready(id));
    bench.tell(Event::Exited {
        worker: id,
        asked: false,
    });
    assert!(
        !bench.policy.is_failing(&server, &tenant),
        "a start succeeded"
    );
}
