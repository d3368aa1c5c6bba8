//! The order of turns: deficit round robin over flows whose tasks wait.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

/// Work that a flow may do for each of its turns, in nanoseconds.
const QUANTUM: i64 = 100_000;
/// Work that is granted at once, in nanoseconds: so long others that have become ready wait at most, beside one poll.
const PASS: i64 = 200_000;
/// What a poll is taken for where nothing is known of its flow, and at least, in nanoseconds.
const LEAST: i64 = 5_000;
/// The most that such a poll is taken for, in nanoseconds.
const MOST: i64 = 20_000_000;

/// Names a flow.
pub(super) type FlowNo = u64;

/// The tasks of one flow that wait.
#[derive(Debug)]
struct Queue<T> {
    tasks: VecDeque<T>,
    /// Work it may still do in this turn; what it did too much is taken from the next ones.
    deficit: i64,
}

/// Flows whose tasks wait, in the order of their turns.
#[derive(Debug)]
pub(super) struct Rotation<T> {
    order: VecDeque<FlowNo>,
    queues: FxHashMap<FlowNo, Queue<T>>,
}

impl<T> Default for Rotation<T> {
    fn default() -> Self {
        Self {
            order: VecDeque::new(),
            queues: FxHashMap::default(),
        }
    }
}

impl<T> Rotation<T> {
    /// A task of that flow waits from now on; whether it is the only one of all flows.
    pub(super) fn push(&mut self, flow: FlowNo, task: T) -> bool {
        let is_first = self.order.is_empty();
        let queue = self.queues.entry(flow).or_insert_with(|| {
            self.order.push_back(flow);
            Queue {
                tasks: VecDeque::new(),
                deficit: 0,
            }
        });
        queue.tasks.push_back(task);
        is_first
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Hands out the next tasks that may run, one after the other, until they take about [`PASS`]. `owed` says what polls of
    /// that task's flow took beyond what was expected of them since it was asked last, less than nothing where it was less;
    /// `cost` what a poll of that task takes, as far as is known; both in nanoseconds. `give` is handed the task and what is
    /// expected of its poll, and says whether the task was still there.
    pub(super) fn pass(
        &mut self,
        owed: impl Fn(&T) -> i64,
        cost: impl Fn(&T) -> u64,
        mut give: impl FnMut(T, i64) -> bool,
    ) {
        let mut left = PASS;
        while left > 0 {
            let Some(flow) = self.order.front().copied() else {
                return;
            };
            let Some(queue) = self.queues.get_mut(&flow) else {
                self.order.pop_front();
                continue;
            };
            if let Some(task) = queue.tasks.front() {
                queue.deficit = (queue.deficit - owed(task)).min(QUANTUM);
            }
            if queue.deficit <= 0 {
                // The flow's turn is over. A poll may take longer than a turn: the flow is passed over until that is made good.
                queue.deficit += QUANTUM;
                self.order.rotate_left(1);
                continue;
            }
            if let Some(task) = queue.tasks.pop_front() {
                let expected = i64::try_from(cost(&task)).unwrap_or(MOST);
                let expected = expected.clamp(LEAST, MOST);
                if give(task, expected) {
                    queue.deficit -= expected;
                    left -= expected;
                }
            }
            if queue.tasks.is_empty() && queue.deficit > 0 {
                // Nothing is saved up; what it did too much is not forgotten.
                self.queues.remove(&flow);
                self.order.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    /// Flows that always want to run, with what one poll of each takes, get the same time.
    fn share(costs: &[u64]) -> Vec<u64> {
        let mut rotation = Rotation::default();
        let mut done = vec![0; costs.len()];
        for flow in (0..costs.len()).cycle().take(100 * costs.len()) {
            rotation.push(flow as FlowNo, flow);
        }
        for _ in 0..20_000 {
            let mut given = vec![];
            rotation.pass(
                |_| 0,
                |flow| costs[*flow],
                |flow, _| {
                    given.push(flow);
                    true
                },
            );
            for flow in given {
                done[flow] += costs[flow];
                rotation.push(flow as FlowNo, flow);
            }
        }
        done
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn flows_get_the_same_time(costs in prop::collection::vec(5_000_u64..2_000_000, 2..6)) {
            let done = share(&costs);
            let (least, most) = (done.iter().min().unwrap_or(&0), done.iter().max().unwrap_or(&0));
            prop_assert!(*most as f64 <= *least as f64 * 1.2, "{costs:?}: {done:?}");
        }

        /// Whatever is expected of a poll: a flow whose rare long polls nobody expects gets the time that others get.
        #[test]
        fn what_was_not_expected_is_made_good(long in 1_000_000_u64..30_000_000, every in 2_usize..50) {
            const SHORT: u64 = 20_000;
            let mut rotation = Rotation::default();
            let (mut owed, mut done, mut polls) = ([0_i64; 2], [0_u64; 2], 0);
            // More than a pass hands out, so that each flow has always something that waits: a flow without saves nothing up.
            for flow in (0..40).map(|number| number % 2) {
                rotation.push(flow as FlowNo, flow);
            }
            while done[0] < 100 * long {
                let mut given = vec![];
                let left: [Cell<i64>; 2] = owed.map(Cell::new);
                rotation.pass(|flow| left[*flow].take(), |_| SHORT, |flow, expected| {
                    given.push((flow, expected));
                    true
                });
                owed = left.map(Cell::into_inner);
                for (flow, expected) in given {
                    polls += usize::from(flow == 0);
                    let took = if flow == 0 && polls % every == 0 { long } else { SHORT };
                    done[flow] += took;
                    owed[flow] += took as i64 - expected;
                    rotation.push(flow as FlowNo, flow);
                }
            }
            prop_assert!(done[1] as f64 >= done[0] as f64 * 0.9, "{done:?}");
        }

        /// Every task is handed out once, those of a flow in order, and nothing stays behind.
        #[test]
        fn all_get_their_turn(tasks in prop::collection::vec((0_u64..4, 1_u64..3_000_000, any::<bool>()), 0..100)) {
            let mut rotation = Rotation::default();
            for (number, (flow, _, _)) in tasks.iter().enumerate() {
                rotation.push(*flow, number);
            }
            let mut given = vec![];
            while !rotation.is_empty() {
                let before = given.len();
                rotation.pass(|_| 0, |it| tasks[*it].1, |it, _| {
                    given.push(it);
                    tasks[it].2
                });
                prop_assert!(given.len() > before || rotation.is_empty());
            }
            for flow in 0..4 {
                let of_flow = |all: &[usize]| all.iter().copied().filter(|it| tasks[*it].0 == flow).collect::<Vec<_>>();
                let pushed: Vec<usize> = (0..tasks.len()).collect();
                prop_assert_eq!(of_flow(&given), of_flow(&pushed));
            }
        }
    }

    #[test]
    fn a_pass_is_bounded() {
        let mut rotation = Rotation::default();
        for number in 0..1000 {
            rotation.push(number % 3, number);
        }
        let mut given = 0;
        rotation.pass(
            |_| 0,
            |_| 20_000,
            |_, _| {
                given += 1;
                true
            },
        );
        assert_eq!(given, 10);
    }
}
