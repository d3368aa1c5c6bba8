//! What a server whose `network` has a list reaches, and what it tries beside: as root, and where stdiopool runs as another user, in both
//! sandboxes. All hosts are this one: names are those of a file that stdiopool sees instead of `/etc/hosts`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::prober::{World, attempt, is_root, told};
use super::support::{BINARY, Stdiopool, eventually, until};
use super::user::USER;

/// What stdiopool's resolver knows.
const HOSTS: &str = "127.0.0.1 localhost api.test sub.wild.test\n10.1.2.3 inner.test\n169.254.169.254 meta.test\n::ffff:127.0.0.1 mapped.test\n";

/// A host that answers each request with what it was asked.
struct Host {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Host {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let heard = Arc::new(Mutex::new(vec![]));
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepted");
                let told = Arc::clone(&told);
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    let len = stream.read(&mut buffer).unwrap_or(0);
                    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                    let body = format!("heard {len}");
                    told.lock().expect("not poisoned").push(text);
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _gone = stream.write_all(answer.as_bytes());
                });
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("not poisoned").clone()
    }
}

/// A world whose stdiopool looks names up in [`HOSTS`], as root or as another user.
async fn world(more: &str, is_user: bool) -> World {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, HOSTS).expect("written");
    if is_user {
        chown(dir.path(), Some(USER), Some(USER)).expect("given");
    }
    let run = |dir: tempfile::TempDir, args: &[String], env: &[(&str, &str)]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c"]);
        command
            .arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"")
            .arg(&hosts);
        if is_user {
            let user = USER.to_string();
            command.args([
                "setpriv",
                "--reuid",
                &user,
                "--regid",
                &user,
                "--clear-groups",
            ]);
            command.env("HOME", dir.path());
        }
        command.arg(BINARY);
        Stdiopool::start(command, dir, args, env)
    };
    World::in_folder(dir, more, run).await
}

/// Keys of a server that reaches `host` as api.test.
fn listed(host: &Host, sandbox: &str) -> String {
    let port = host.port;
    format!(
        "sandbox = \"{sandbox}\"\nnetwork = {{ allow = [\"api.test:{port}\", \"*.wild.test:{port}\", \"inner.test:{port}\", \"meta.test:{port}\", \"mapped.test:{port}\", \"api.test:9\", \"127.0.0.1:{port}\"] }}\n[audit]\nfile = \"audit.jsonl\"\n"
    )
}

/// Asks a host over TCP and says what it answers.
fn ask(host: &str, port: u16, text: &str) -> String {
    let (host, text) = (json!(host), json!(text));
    format!(
        "import socket\ns = socket.create_connection(({host}, {port}), 10)\ns.sendall({text}.encode())\nresult = s.recv(4096).decode()\nassert result"
    )
}

const WORLDS: [(&str, bool); 4] = [
    ("standard", false),
    ("strict", false),
    ("standard", true),
    ("strict", true),
];

#[tokio::test]
async fn the_hosts_of_a_list_are_reached_by_programs_that_know_nothing_of_it() {
    if !is_root() {
        return;
    }
    for (sandbox, is_user) in WORLDS {
        let host = Host::start();
        let world = world(&listed(&host, sandbox), is_user).await;
        let port = host.port;
        let code = format!(
            "import urllib.request\nresult = urllib.request.urlopen('http://api.test:{port}/x', timeout=10).read().decode()"
        );
        let said = told(&world.anna, &code).await;
        assert!(said.as_str().expect("text").starts_with("heard "), "{said}");
        assert!(host.heard()[0].contains(&format!("Host: api.test:{port}")));
        for name in ["sub.wild.test", "API.test", "127.0.0.1", "localhost"] {
            let said = told(&world.anna, &ask(name, port, "GET / HTTP/1.1\r\n\r\n")).await;
            assert!(
                said.as_str().expect("text").contains("200 OK"),
                "{name}: {said}"
            );
        }
        // By IPv6 as well, to a host that has an address of IPv4 alone.
        let code = format!(
            "import socket\ni = socket.getaddrinfo('api.test', {port}, socket.AF_INET6, socket.SOCK_STREAM)[0]\ns = socket.socket(i[0])\ns.connect(i[4])\ns.sendall(b'six')\nresult = [i[4][0], s.recv(4096).decode()]"
        );
        let said = told(&world.anna, &code).await;
        assert!(
            said[0].as_str().expect("an address").starts_with("fd73:"),
            "{said}"
        );
        assert!(
            said[1].as_str().expect("text").contains("heard 3"),
            "{said}"
        );
        // Much, both ways at once, and one end before the other.
        let code = format!(
            "import socket\ns = socket.create_connection(('api.test', {port}), 10)\ns.sendall(b'x')\ns.shutdown(socket.SHUT_WR)\nresult = len(s.makefile('rb').read())"
        );
        assert!(told(&world.anna, &code).await.as_u64().expect("a number") > 10);
        // Its own loopback is its own.
        let code = "import socket\ns = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname(), 5)\nresult = [name for _, name in socket.if_nameindex()]";
        assert_eq!(told(&world.anna, code).await, json!(["lo"]));
        let metrics = world.pool.metrics().await;
        assert!(
            metrics.contains("stdiopool_egress_total{outcome=\"connected\",server=\"probe\"}"),
            "{metrics}"
        );
        let audit = world.pool.dir.path().join("audit.jsonl");
        let line = until("it is in the audit log", || {
            let lines = std::fs::read_to_string(&audit).ok()?;
            let mut lines = lines
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| {
                line["kind"] == "egress" && line["host"] == "api.test" && line["sent_bytes"] == 3
            })
        });
        assert_eq!(
            (&line["outcome"], &line["port"], &line["tenant"]),
            (&json!("ok"), &json!(port), &json!("anna"))
        );
        assert!(
            line["received_bytes"].as_u64().expect("counted") > 20,
            "{line}"
        );
    }
}

/// Code that must fail at once, with one of these errors.
async fn assert_refused(world: &World, code: &str, errors: &[i64]) {
    let since = std::time::Instant::now();
    let said = attempt(&world.anna, code).await;
    let errno = said["errno"].as_i64();
    assert!(
        errno.is_some_and(|it| errors.contains(&it)),
        "{code}: {said}"
    );
    assert!(since.elapsed() < Duration::from_secs(4), "{code}: {said}");
}

const REFUSED: i64 = 111;
const RESET: i64 = 104;
const NO_SUCH_NAME: i64 = -2;

#[tokio::test]
async fn no_way_leads_around_a_list_of_hosts() {
    if !is_root() {
        return;
    }
    for (sandbox, is_user) in WORLDS {
        let (host, other) = (Host::start(), Host::start());
        let world = world(&listed(&host, sandbox), is_user).await;
        let port = host.port;
        // Names that are not listed do not exist, also for who has an answer by other means.
        for name in ["evil.test", "wild.test", "api.test.evil.test", "xapi.test"] {
            assert_refused(&world, &ask(name, port, "x"), &[NO_SUCH_NAME]).await;
        }
        // Names that lead inside: a private address, a cloud's metadata. 127.0.0.1 is listed, in whatever spelling.
        for name in ["inner.test", "meta.test"] {
            assert_refused(&world, &ask(name, port, "x"), &[RESET]).await;
        }
        told(&world.anna, &ask("mapped.test", port, "x")).await;
        // Addresses: those of stdiopool and of other servers of this host, the internet's, of IPv6, in disguise.
        let own = [&world.pool.url, &world.pool.admin].map(|url| {
            let port = url.rsplit(':').next().expect("a port");
            port.trim_end_matches('/').parse::<u16>().expect("a number")
        });
        for closed in own.into_iter().chain([other.port]) {
            drop(std::net::TcpStream::connect(("127.0.0.1", closed)).expect("it is there"));
            for address in [
                "127.0.0.1",
                "::1",
                "api.test",
                "0.0.0.0",
                "::ffff:127.0.0.1",
            ] {
                assert_refused(&world, &ask(address, closed, "x"), &[REFUSED]).await;
            }
        }
        for address in [
            "8.8.8.8",
            "169.254.169.254",
            "10.1.2.3",
            "2001:db8::1",
            "fd00:ec2::254",
            "64:ff9b::7f00:1",
            "198.18.77.77",
            "127.0.0.2",
        ] {
            assert_refused(&world, &ask(address, port, "x"), &[RESET]).await;
            assert_refused(&world, &ask(address, 443, "x"), &[REFUSED]).await;
        }
        // The name that an address stands for is known, whatever else is listed with another port.
        assert_refused(&world, &ask("api.test", 22, "x"), &[REFUSED]).await;
        assert_refused(&world, &ask("sub.wild.test", 9, "x"), &[RESET]).await;
        // UDP: nobody answers but for names, and what it asks for there is not asked outside.
        for address in ["8.8.8.8", "127.0.0.53", "api.test"] {
            let code = format!(
                "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(5)\ns.connect(('{address}', 53))\ns.send(b'x')\nresult = s.recv(1)"
            );
            assert_refused(&world, &code, &[REFUSED]).await;
        }
        // Packets of its own, and other networks.
        for code in [
            "import socket\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)",
            "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        ] {
            assert_refused(&world, code, &[1, 97]).await;
        }
        // What is said over a connection is the host's to understand: another name, or a wish to be led on, changes nothing.
        let before = host.heard().len();
        told(
            &world.anna,
            &ask(
                "api.test",
                port,
                "GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            ),
        )
        .await;
        let relay = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n", other.port);
        told(&world.anna, &ask("api.test", port, &relay)).await;
        let heard = host.heard().split_off(before);
        assert!(
            heard[0].contains("Host: evil.test") && heard[1] == relay,
            "{heard:?}"
        );
        assert!(
            !other.heard().iter().any(|it| !it.is_empty()),
            "reached by nobody"
        );
        // All of it is counted, said and kept.
        for outcome in [
            "refused_name",
            "refused_port",
            "refused_address",
            "refused_internal",
            "refused_udp",
        ] {
            eventually(outcome, async || {
                let metrics = world.pool.metrics().await;
                metrics.contains(&format!(
                    "stdiopool_egress_total{{outcome=\"{outcome}\",server=\"probe\"}}"
                ))
            })
            .await;
        }
        assert!(world.pool.log().contains("worker did not reach a host"));
        let audit =
            std::fs::read_to_string(world.pool.dir.path().join("audit.jsonl")).expect("there");
        for part in [
            "\"host\":\"evil.test\"",
            "\"host\":\"meta.test\"",
            "\"reason\":\"refused_internal\"",
            "\"host\":\"8.8.8.8\"",
        ] {
            assert!(audit.contains(part), "{part}");
        }
    }
}

#[tokio::test]
async fn what_stdiopool_listens_on_is_not_reached_though_it_is_listed() {
    if !is_root() {
        return;
    }
    let host = Host::start();
    let world = world(&listed(&host, "standard"), false).await;
    let ports = [&world.pool.url, &world.pool.admin].map(|url| {
        let port = url.rsplit(':').next().expect("a port");
        port.trim_end_matches('/').parse::<u16>().expect("a number")
    });
    let file = world.pool.dir.path().join("pool.toml");
    let text = std::fs::read_to_string(&file).expect("there");
    let both = format!("\"127.0.0.1:{}\", \"127.0.0.1:{}\"", ports[0], ports[1]);
    std::fs::write(&file, text.replace("\"api.test:9\"", &both)).expect("written");
    world.pool.signal(nix::sys::signal::Signal::SIGHUP);
    for port in ports {
        let code = ask("127.0.0.1", port, "GET / HTTP/1.1\r\n\r\n");
        // Closed, and then taken and reset: by a worker with the new list.
        eventually("it is listed", async || {
            attempt(&world.anna, &code).await["errno"] == RESET
        })
        .await;
    }
    let metrics = world.pool.metrics().await;
    assert!(
        metrics.contains("outcome=\"refused_internal\""),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_tenant_reaches_less_than_others_and_never_more() {
    if !is_root() {
        return;
    }
    let host = Host::start();
    let port = host.port;
    let more = format!(
        "{}[tenants.anna.network]\nprobe = {{ allow = [\"a.wild.test:{port}\"] }}\n",
        listed(&host, "standard")
    );
    let world = world(&more, false).await;
    assert_refused(&world, &ask("api.test", port, "x"), &[NO_SUCH_NAME]).await;
    assert_refused(&world, &ask("sub.wild.test", port, "x"), &[NO_SUCH_NAME]).await;
    told(&world.bob, &ask("sub.wild.test", port, "x")).await;
}

#[tokio::test]
async fn a_flood_of_connections_is_the_flooders_own() {
    if !is_root() {
        return;
    }
    let host = Host::start();
    let port = host.port;
    let world = world(&listed(&host, "standard"), false).await;
    let code = format!(
        "import socket\nn = 0\nfor i in range(600):\n  s = socket.socket()\n  s.setblocking(False)\n  s.connect_ex(('8.8.8.8', {port} if i % 2 else 1000 + i))\n  n += 1\nresult = n"
    );
    told(&world.anna, &code).await;
    let since = std::time::Instant::now();
    told(&world.bob, &ask("api.test", port, "x")).await;
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn a_host_that_has_no_networks_for_servers_is_told_so() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let toml = "[servers.a]\ncommand = \"cat\"\nnetwork = { allow = [\"api.test\"] }\n";
    std::fs::write(dir.path().join("pool.toml"), toml).expect("written");
    // In a namespace of users that may make no networks: nothing of the host's is changed.
    let run = |verb: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        command.arg("echo 0 > /proc/sys/user/max_net_namespaces && exec \"$@\"");
        command.args(["sh", BINARY, verb, "--config", "pool.toml"]);
        #[allow(clippy::disallowed_methods, reason = "the program under test")]
        let output = command
            .current_dir(dir.path())
            .env("NO_COLOR", "1")
            .output();
        let output = output.expect("unshare runs");
        let texts = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&texts).into_owned(),
        )
    };
    let (is_fine, text) = run("check");
    assert!(
        !is_fine && text.contains("a list of hosts cannot be had"),
        "{text}"
    );
    let (_, text) = run("doctor");
    assert!(
        text.contains("servers whose `network` has a list are refused"),
        "{text}"
    );
}
