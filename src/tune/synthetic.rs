//! A made-up day: tenants of unequal size, a daily curve, calls in bursts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::f64::consts::TAU;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp, LogNormal, Zipf};

use super::workload::{Call, Profile, Workload};

/// How the day is.
#[derive(Clone, PartialEq, Debug)]
pub struct Load {
    /// How many tenants.
    pub tenants: u32,
    /// How unequal tenants are: the exponent of Zipf's law; 0: all alike.
    pub skew: f64,
    /// Calls of all tenants together.
    pub calls: u32,
    /// How long the load lasts.
    pub length: Duration,
    /// How much busier the busiest hour is than the mean, 0 to 1.
    pub swing: f64,
    /// Calls that a client makes one after the other, in the mean.
    pub burst: f64,
    /// The time between two calls that a client makes one after the other, in the mean.
    pub think: Duration,
    /// What a call takes, in the median; some take far longer.
    pub takes: Duration,
    /// Decides everything that is random.
    pub seed: u64,
}

/// A client in the middle of its calls.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Client {
    at: Duration,
    tenant: u32,
    server: u16,
    left: u32,
}

/// Makes the day up.
///
/// # Panics
/// With a load whose numbers are not finite, or negative.
pub fn synthetic(load: &Load, servers: Vec<Profile>) -> Workload {
    let mut random = SmallRng::seed_from_u64(load.seed);
    let sizes = Zipf::new(f64::from(load.tenants.max(1)), load.skew).expect("a valid skew");
    let burst = load.burst.max(1.0);
    let think = Exp::new(1.0 / load.think.as_secs_f64().max(1e-3)).expect("a valid mean");
    let takes = LogNormal::new(load.takes.as_secs_f64().max(1e-6).ln(), 1.0).expect("valid");
    let clients = f64::from(load.calls) / burst;
    let rate = clients / load.length.as_secs_f64();
    // The curve is met by throwing away from a process that is as busy as its busiest hour.
    let busiest = rate * (1.0 + load.swing);
    let gap = Exp::new(busiest.max(1e-9)).expect("a valid rate");
    let day = Duration::from_secs(86_400).min(load.length);

    let servers_len = u16::try_from(servers.len()).unwrap_or(u16::MAX).max(1);
    let mut calls = Vec::with_capacity(load.calls as usize);
    let mut active: BinaryHeap<Reverse<Client>> = BinaryHeap::new();
    let mut arrival = Duration::from_secs_f64(gap.sample(&mut random));
    loop {
        let next_call = active.peek().map(|Reverse(client)| client.at);
        if next_call.is_none_or(|at| arrival < at) {
            if arrival >= load.length {
                match next_call {
                    Some(at) if at < load.length => {}
                    _ => break,
                }
            } else {
                let phase = arrival.as_secs_f64() / day.as_secs_f64();
                let wanted = 1.0 + load.swing * (TAU * (phase - 0.25)).sin();
                if random.random::<f64>() * (1.0 + load.swing) < wanted {
                    let more = Exp::new(1.0 / (burst - 1.0).max(1e-9)).expect("a valid mean");
                    active.push(Reverse(Client {
                        at: arrival,
                        tenant: whole(sizes.sample(&mut random)) - 1,
                        server: random.random_range(0..servers_len),
                        left: whole(more.sample(&mut random).round()),
                    }));
                }
                arrival += Duration::from_secs_f64(gap.sample(&mut random));
                continue;
            }
        }
        let Some(Reverse(mut client)) = active.pop() else {
            break;
        };
        if client.at >= load.length {
            continue;
        }
        let took = Duration::from_secs_f64(takes.sample(&mut random));
        calls.push(Call {
            at: client.at,
            tenant: client.tenant,
            server: client.server,
            takes: took,
        });
        if client.left > 0 {
            client.left -= 1;
            client.at += took + Duration::from_secs_f64(think.sample(&mut random));
            active.push(Reverse(client));
        }
    }
    Workload {
        servers,
        calls,
        length: load.length,
        tenants: load.tenants as usize,
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates"
)]
fn whole(number: f64) -> u32 {
    number as u32
}
