//! Numbers of things, for people.

/// So many things: `1 server`, `2 servers`.
pub fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        let told = [0, 1, 2].map(|n| counted(n, "server"));
        assert_eq!(told, ["0 servers", "1 server", "2 servers"]);
    }
}
