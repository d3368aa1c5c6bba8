//! Numbers of things, for people.

use std::time::Duration;

/// So many things: `1 server`, `2 servers`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// A short time: `31 ms`, `1.2 s`, `95 s`.
pub fn in_ms(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1_000 => format!("{ms} ms"),
        1_000..10_000 => format!("{:.1} s", time.as_secs_f64()),
        _ => format!("{} s", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        let told = [0, 1, 2].map(|n| counted(n, "server"));
        assert_eq!(told, ["0 servers", "1 server", "2 servers"]);
    }

    #[test]
    fn short_times_have_the_digits_that_matter() {
        let told = [31, 999, 1_240, 95_900].map(|ms| in_ms(Duration::from_millis(ms)));
        assert_eq!(told, ["31 ms", "999 ms", "1.2 s", "95 s"]);
    }
}
