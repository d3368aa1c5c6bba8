//! Files by which a worker with a list of hosts looks up names: by its own network's DNS, and nothing else.

use super::guardian::FileContents;
use crate::egress::Network;

/// The files of a worker in that network. Looks at the host's.
pub(super) fn files(network: &Network) -> Vec<FileContents> {
    if network.allowed().is_none() {
        return vec![];
    }
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let file = |path: &str, text: String| FileContents {
        path: path.into(),
        text,
    };
    vec![
        file(
            "/etc/resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:5 attempts:2\n".to_owned(),
        ),
        file("/etc/hosts", hosts(&read("/proc/sys/kernel/hostname"))),
        file("/etc/nsswitch.conf", nsswitch(&read("/etc/nsswitch.conf"))),
    ]
}

/// The names of the loopback, and that of this host. All others of the host's file are left out: what a program has from there is an
/// address, of which nobody knows by which name it was asked for.
fn hosts(hostname: &str) -> String {
    let own = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
    match hostname.trim() {
        "" | "localhost" => own.to_owned(),
        name => format!("{own}127.0.1.1 {name}\n"),
    }
}

/// The host's sources of names, but for those of hosts: services of the host would look these up by its network.
fn nsswitch(of_host: &str) -> String {
    let others = of_host
        .lines()
        .filter(|line| !line.trim_start().starts_with("hosts:"));
    let mut text: String = others.flat_map(|line| [line, "\n"]).collect();
    text.push_str("hosts: files dns\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_its_own_network_alone() {
        assert!(hosts("localhost\n").ends_with("ip6-loopback\n"));
        assert!(hosts("me.example\n").ends_with("\n127.0.1.1 me.example\n"));
        let text = nsswitch("passwd: files systemd\nhosts: files resolve [!UNAVAIL=return] dns\n");
        assert_eq!(text, "passwd: files systemd\nhosts: files dns\n");
    }
}
