//! pool.toml as people write it, with and without mistakes.

mod documents;

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::{ServerName, TenantId};

/// The error is a text: what a user reads of it is compared.
fn read(text: &str) -> Result<Config, String> {
    parse(text, "pool.toml", Path::new("/etc/stdiopool")).map_err(|mistakes| mistakes.to_string())
}

const SMALLEST: &str = "[servers.a]\ncommand = \"a\"\n";

#[test]
fn what_is_not_written_has_its_default() {
    let config = read(SMALLEST).expect("valid");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.http.max_body, 8 << 20);
    assert_eq!(config.auth.mode, AuthMode::None);
    assert_eq!(config.pool.max_workers, 64);
    assert_eq!(config.pool.queue_timeout, Duration::from_secs(30));
    assert_eq!(config.state.dir, Path::new("/etc/stdiopool/.stdiopool"));
    let server = &config.servers[&ServerName::new("a")];
    assert_eq!(server.share, Share::Tenant);
    assert_eq!(server.idle_timeout, config.pool.idle_timeout);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn a_servers_limits_go_before_the_pools() {
    let text = "[pool]\nidle_timeout = \"1m\"\nmax_requests = 9\n[servers.a]\ncommand = \"a\"\nidle_timeout = \"2h\"\n[servers.b]\ncommand = \"b\"\nmax_requests = 0\n";
    let config = read(text).expect("valid");
    let of = |name: &str| &config.servers[&ServerName::new(name)];
    assert_eq!(of("a").idle_timeout, Duration::from_secs(7200));
    assert_eq!(of("b").idle_timeout, Duration::from_secs(60));
    assert_eq!((of("a").max_requests, of("b").max_requests), (9, 0));
}

#[test]
fn all_mistakes_are_told_at_once_with_their_places() {
    let text = r#"[http]
listen = "localhost"
max_body = "8 megs"
color = 1
[pool]
max_workers = 0
idle_timeout = 30
max_worker = 5
queue_timeout = "5 fortnights"
[auth]
mode = "tokens"
[servers."a b"]
command = "a"
[servers.b]
args = ["${config.x}", 5, "${nope}", "${config.x", { when = "secret.x", args = [] }]
env = { "A=B" = "x" }
share = "everyone"
sandbox = "stricter"
[servers.b.config]
properties.y = { type = "strng" }
[servers.c]
command = "c"
args = ["${config.repo}"]
[servers.c.config]
properties.rep = { type = "string" }
[tenants.acme]
tokens = ["my-token"]
weight = 0
config.c = { rep = 5 }
config.d = {}
secrets.k = "hunter22"
secrets.l = { env = "A", file = "b" }
colour = true
"#;
    let mistakes = read(text).expect_err("full of mistakes");
    assert!(
        !mistakes.contains("hunter22") && !mistakes.contains("my-token"),
        "{mistakes}"
    );
    insta::assert_snapshot!(mistakes);
}

#[test]
fn what_would_let_strangers_in_is_a_mistake() {
    let open =
        format!("[http]\nlisten = \"0.0.0.0:80\"\n[admin]\nlisten = \"0.0.0.0:81\"\n{SMALLEST}");
    insta::assert_snapshot!(read(&open).expect_err("open to all"));
    let nobody =
        read(&format!("[auth]\nmode = \"token\"\n{SMALLEST}")).expect("a token can be made");
    assert!(
        nobody.warnings[0].message.contains("token create"),
        "{:?}",
        nobody.warnings
    );
    let lax = format!("[auth]\nmode = \"jwt\"\nalgorithms = [\"HS256\"]\n{SMALLEST}");
    insta::assert_snapshot!(read(&lax).expect_err("anyone's token"));
    let lax = format!("[auth]\nmode = \"header\"\ntrusted_proxies = [\"proxy\"]\n{SMALLEST}");
    insta::assert_snapshot!(read(&lax).expect_err("anyone's header"));
    let hash = "sha256:".to_owned() + &"ab".repeat(32);
    let shared = format!(
        "{SMALLEST}[tenants.x]\ntokens = [\"{hash}\"]\n[tenants.y]\ntokens = [\"{hash}\"]\n"
    );
    insta::assert_snapshot!(read(&shared).expect_err("one token, two tenants"));
}

#[test]
fn a_hash_is_hexadecimal_digits_alone() {
    let of = |digits: &str| {
        read(&format!(
            "{SMALLEST}[tenants.x]\ntokens = [\"sha256:{digits}\"]\n"
        ))
    };
    for good in ["ab", "AB", "0f"] {
        of(&good.repeat(32)).expect("a hash");
    }
    for bad in ["+f", "-0", " f", "0x"] {
        let error = of(&bad.repeat(32)).expect_err("no hash").to_string();
        assert!(error.contains("64 hexadecimal digits"), "{bad}: {error}");
    }
}

#[test]
fn a_syntax_error_has_its_place() {
    insta::assert_snapshot!(read("[servers.a]\ncommand = \"a\nargs = [\n").expect_err("no TOML"));
}

#[test]
fn keys_without_effect_yet_are_warned_of() {
    let text = "[pool]\nmax_memory = \"50%\"\n[servers.a]\ncommand = \"a\"\nargs = [\"${secret.k}\"]\nlimits = { memory = \"1GiB\" }\n";
    let warnings = read(text).expect("valid").warnings;
    let warnings: Vec<_> = warnings.iter().map(|it| it.placed("pool.toml")).collect();
    insta::assert_snapshot!(warnings.join("\n"));
}

#[test]
fn a_tenants_values_are_kept_as_they_are() {
    let text = format!(
        "{SMALLEST}[tenants.acme]\nmax_workers = 3\nconfig.a = {{ list = [1, \"x\"], on = true, n = 1.5 }}\nsecrets.k = {{ file = \"k\" }}\n"
    );
    let config = read(&text).expect("valid");
    let tenant = &config.tenants[&TenantId::new("acme")];
    let values = serde_json::Value::Object(tenant.config[&ServerName::new("a")].clone());
    assert_eq!(
        values,
        serde_json::json!({ "list": [1, "x"], "on": true, "n": 1.5 })
    );
    assert_eq!(tenant.max_workers, Some(3));
    assert_eq!(
        tenant.secrets["k"],
        SecretSource::File("/etc/stdiopool/k".into())
    );
}

#[test]
fn words_of_a_command_line_are_taken_as_they_are() {
    let config = single_command(vec!["npx".into(), "${config.x}".into()]).expect("valid");
    let name = config.only_server.clone().expect("one server");
    let Arg::Always(template) = &config.servers[&name].args[0] else {
        panic!("no argument")
    };
    assert_eq!(template.references().count(), 0);
}

proptest! {
    /// Whatever is done to a file, it is read or refused with places that are in it.
    #[test]
    fn no_text_makes_it_panic(cut in 0_usize..2000, len in 0_usize..60, insert in "[\\[\\]{}=\"'.#,\\n \u{e9}$a0:-]{0,8}") {
        let text = include_str!("../../pool.toml");
        let from = floor(text, cut.min(text.len()));
        let to = floor(text, (from + len).min(text.len()));
        let text = [&text[..from], &insert, &text[to..]].concat();
        if let Err(mistakes) = parse(&text, "pool.toml", Path::new("/")) {
            prop_assert!(!mistakes.mistakes.is_empty());
            let lines = text.matches('\n').count() + 1;
            for mistake in &mistakes.mistakes {
                prop_assert!((1..=lines).contains(&mistake.line), "{}", mistakes);
            }
            let _shown = mistakes.to_string();
        }
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[test]
fn a_required_value_may_come_from_callers_or_from_the_schema() {
    let warnings = |server: &str| {
        let text = format!(
            "[servers.gh]\ncommand = \"gh\"\n{server}\n[servers.gh.config]\nrequired = [\"repo\"]\nproperties.repo = {{ type = \"string\" }}\nproperties.page = {{ type = \"integer\" }}\n[tenants.acme]\nconfig.gh = {{ page = 1 }}\n"
        );
        parse(&text, "pool.toml", Path::new("/"))
            .expect("valid")
            .warnings
    };
    let of_nobody = warnings("");
    assert!(
        of_nobody[0]
            .message
            .ends_with("its requests will be refused"),
        "{of_nobody:?}"
    );
    let of_callers = warnings("client_config = [\"repo\"]");
    assert!(
        of_callers[0]
            .message
            .ends_with("requests whose callers do not set it will be refused"),
        "{of_callers:?}"
    );
}

#[test]
fn a_required_value_with_a_default_is_not_missed() {
    let text = "[servers.gh]\ncommand = \"gh\"\n[servers.gh.config]\nrequired = [\"repo\"]\nproperties.repo = { type = \"string\", default = \"a/b\" }\nproperties.page = { type = \"integer\" }\n[tenants.acme]\nconfig.gh = { page = 1 }\n";
    let config = parse(text, "pool.toml", Path::new("/")).expect("valid");
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn what_lets_others_write_credentials_is_warned_of() {
    let warnings = |auth: &str| {
        let text = format!("[auth]\n{auth}\n{SMALLEST}");
        let warnings = read(&text).expect("valid").warnings;
        let texts: Vec<_> = warnings.into_iter().map(|it| it.message).collect();
        texts.join("\n")
    };
    let jwt = |url: &str| {
        warnings(&format!(
            "mode = \"jwt\"\nissuer = \"i\"\naudience = [\"a\"]\njwks_url = \"{url}\""
        ))
    };
    assert!(jwt("http://id.example.com/jwks").contains("`auth.jwks_url`"));
    for safe in ["https://id.example.com/jwks", "http://127.0.0.1:1/jwks"] {
        assert!(!jwt(safe).contains("jwks_url"), "{safe}");
    }
    let proxies = |list: &str| warnings(&format!("mode = \"header\"\ntrusted_proxies = [{list}]"));
    let secret = format!("proxy_secrets = [\"sha256:{}\"]", "ab".repeat(32));
    assert!(
        proxies(&format!(
            "\"10.0.0.1\", \"::/0\"]\n{secret}\nrequired_scopes = ["
        ))
        .contains("has ::/0")
    );
    assert!(!proxies("\"10.0.0.0/8\"").contains("trusted_proxies"));
}

#[test]
fn proxies_on_this_host_are_trusted_by_more_than_their_address() {
    let mistake = |auth: &str, http: &str| {
        let text = format!("{http}\n[auth]\nmode = \"header\"\n{auth}\n{SMALLEST}");
        read(&text).err().map(|error| error.to_string())
    };
    for loopback in ["127.0.0.1", "127.9.0.0/16", "::1", "0.0.0.0/0", "::/0"] {
        let auth = format!("trusted_proxies = [\"10.0.0.1\", \"{loopback}\"]");
        let told = mistake(&auth, "").expect(loopback);
        assert!(told.contains("`auth.proxy_secrets`"), "{told}");
        let secret = format!("{auth}\nproxy_secrets = [\"sha256:{}\"]", "ab".repeat(32));
        assert_eq!(mistake(&secret, ""), None, "{loopback}");
        let tls = "[http.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"r\"";
        assert_eq!(mistake(&auth, tls), None, "{loopback}");
    }
    assert_eq!(
        mistake("trusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]", ""),
        None
    );
    let hash = mistake(
        "trusted_proxies = [\"10.0.0.1\"]\nproxy_secrets = [\"plain\"]",
        "",
    );
    let hash = hash.expect("no hash");
    assert!(
        hash.contains("sha256sum") && !hash.contains("plain"),
        "{hash}"
    );
}

#[test]
fn a_confidential_value_that_does_not_fit_is_not_shown() {
    for mark in ["writeOnly", "sensitive"] {
        let text = format!(
            "[servers.a]\ncommand = \"a\"\n[servers.a.config]\nminProperties = 2\nproperties.pw = {{ type = \"string\", {mark} = true, minLength = 30 }}\n[tenants.t]\nconfig.a = {{ pw = \"hunter22\" }}\n"
        );
        let mistakes = read(&text).expect_err("too short, too few");
        assert!(mistakes.contains("shorter than 30"), "{mistakes}");
        assert!(!mistakes.contains("hunter22"), "{mistakes}");
    }
}

#[test]
fn what_one_request_needs_fits_into_what_may_be_held() {
    let with = |text: &str| read(&format!("{text}\n{SMALLEST}"));
    let default = with("").expect("valid");
    let limits = (default.rates.memory_held, default.http.memory);
    assert_eq!(limits, (64 << 20, 512 << 20));
    let raised = with("[http]\nmax_body = \"64MiB\"").expect("valid");
    assert_eq!(raised.rates.memory_held, (128 + 32) << 20);
    let small = [
        "[limits]\nmemory_held = \"40MiB\"",
        "[http]\nmemory = \"60MiB\"",
        "[tenants.a.limits]\nmemory_held = \"1MiB\"",
    ];
    for text in small {
        let mistakes = with(text).expect_err("too little").to_string();
        assert!(
            mistakes.contains("needs") || mistakes.contains("may hold"),
            "{mistakes}"
        );
        assert!(mistakes.contains("memory"), "{mistakes}");
    }
    let own = with("[tenants.a.limits]\nmemory_held = \"1GiB\"").expect("valid");
    assert_eq!(own.http.memory, 1 << 30, "as much as one tenant may hold");
    let of_a: Vec<_> = own.own_held_limits().collect();
    assert_eq!(of_a, [(TenantId::new("a"), 1 << 30)]);
}

#[test]
fn an_address_of_ipv4_that_is_written_as_one_of_ipv6_is_that_one() {
    let hash = "ab".repeat(32);
    let text = format!(
        "[http]\nlisten = \"[::ffff:127.0.0.1]:8080\"\nproxies = [\"::ffff:10.0.0.0/104\", \"::ffff:10.9.9.9\", \"2001:db8::/32\", \"::/0\"]\n[admin]\nlisten = \"[::ffff:127.0.0.1]:9090\"\n[auth]\nmode = \"header\"\ntrusted_proxies = [\"::ffff:10.0.0.1\"]\nproxy_secrets = [\"sha256:{hash}\"]\n{SMALLEST}"
    );
    let config = read(&text).expect("valid");
    let shown: Vec<_> = config
        .http
        .connections
        .proxies
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        shown,
        ["10.0.0.0/8", "10.9.9.9/32", "2001:db8::/32", "::/0"]
    );
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    let AuthMode::Header(headers) = &config.auth.mode else {
        panic!("headers");
    };
    assert!(headers.trusted[0].contains(&std::net::IpAddr::from([10, 0, 0, 1])));
    for network in [
        "::ffff:127.0.0.1",
        "::ffff:127.0.0.0/104",
        "::ffff:0:0/96",
        "::ffff:0.0.0.0/97",
        "::1",
        "::/0",
    ] {
        let text =
            format!("[auth]\nmode = \"header\"\ntrusted_proxies = [\"{network}\"]\n{SMALLEST}");
        let error = read(&text).expect_err("servers run there too").to_string();
        assert!(
            error.contains("each could name any tenant"),
            "{network}: {error}"
        );
    }
    let open = format!("[http]\nlisten = \"[::ffff:0.0.0.0]:80\"\n{SMALLEST}");
    assert!(
        read(&open)
            .expect_err("open to all")
            .to_string()
            .contains("0.0.0.0:80")
    );
}

#[test]
fn where_packages_come_from_is_the_same_for_every_tenant() {
    let why = |server: &str| read(&format!("[servers.x]\n{server}\n")).err();
    for (server, place) in [
        (
            "command = \"npx\"\nargs = [\"--registry=${config.r}\", \"p\"]",
            "3:8: `servers.x.args`: `--registry`",
        ),
        (
            "command = \"uvx\"\nargs = [\"--index-url\", \"${config.r}\", \"p\"]",
            "3:8: `servers.x.args`: `--index-url`",
        ),
        (
            "command = \"uvx\"\nargs = [{ when = \"config.r\", args = [\"-i\", \"https://r\"] }, \"p\"]",
            "3:8: `servers.x.args`: `-i`",
        ),
        (
            "command = \"sh\"\nargs = [\"-c\", \"npx --userconfig ${config.r} p\"]",
            "3:8: `servers.x.args`: `--userconfig`",
        ),
        (
            "command = \"env\"\nargs = [\"UV_INDEX=${config.r}\", \"uvx\", \"p\"]",
            "3:8: `servers.x.args`: `UV_INDEX`",
        ),
        (
            "command = \"npx\"\nenv = { NPM_CONFIG_REGISTRY = \"${config.r}\" }",
            "3:31: `servers.x.env.NPM_CONFIG_REGISTRY`",
        ),
        (
            "command = \"uvx\"\nenv = { UV_CONFIG_FILE = \"${config.r}\" }",
            "3:26: `servers.x.env.UV_CONFIG_FILE`",
        ),
    ] {
        let why = why(server).expect(server);
        assert!(
            why.contains(&format!("pool.toml:{place}")),
            "{server}\n{why}"
        );
        assert!(
            why.contains("for every tenant alike: it must be written out"),
            "{why}"
        );
    }
    for server in [
        "command = \"npx\"\nargs = [\"-y\", \"p\", \"--registry=${config.r}\"]",
        "command = \"npx\"\nargs = [\"--registry=https://r\", \"p\", \"${config.r}\"]",
        "command = \"uvx\"\nargs = [\"${config.p}\", \"--index\", \"${config.r}\"]",
        "command = \"own\"\nargs = [\"--registry=${config.r}\"]",
    ] {
        assert_eq!(why(server), None, "{server}");
    }
}

#[test]
fn what_names_nothing_is_a_mistake_wherever_names_stand() {
    let server = "[servers.x]\ncommand = \"x\"\n";
    for (toml, told) in [
        (
            "bind.\"\" = { a = \"${tenant.id}\" }",
            "3:6: `servers.x.bind` has \"\", which is empty",
        ),
        ("bind.\" \" = {}", "which is empty"),
        (
            "bind.\"git_status \" = { a = \"x\" }",
            "\"git_status \", which begins or ends with a blank",
        ),
        (
            "bind.\"a\\tb\" = {}",
            "\"a\\tb\", which has a control character",
        ),
        (
            "bind.t.\"\" = \"x\"",
            "3:8: `servers.x.bind.t` has \"\", which is empty",
        ),
        ("bind.t.\"a\\n\" = \"x\"", "begins or ends with a blank"),
        (
            "tools.deny = [\"delete_* \"]",
            "`servers.x.tools.deny` has \"delete_* \", which begins or ends with a blank",
        ),
        (
            "tools.allow = [\"\"]",
            "`servers.x.tools.allow` has \"\", which is empty",
        ),
        (
            "[policy.p]\nusers = [\"a\\u0000\"]",
            "`policy.p.users` has \"a\\0\", which has a control character",
        ),
    ] {
        let why = read(&format!("{server}{toml}\n")).expect_err(toml);
        assert!(why.contains(told), "{toml}\n{why}");
    }
    let inner = "bind.\"git status\" = { \"the account\" = \"x\" }\n";
    assert!(read(&format!("{server}{inner}")).is_ok());
}

#[test]
fn a_network_is_on_off_or_a_list_of_hosts_and_a_tenants_is_no_more() {
    use crate::egress::Network;
    let text = |network: &str, more: &str| {
        format!("[servers.a]\ncommand = \"a\"\nnetwork = {network}\n{more}")
    };
    let list = "{ allow = [\"api.github.com\", \"*.example.com:8443\"] }";
    let tenant = "[tenants.t.network]\na = { allow = [\"x.example.com:8443\"] }\n";
    let config = read(&text(list, tenant)).expect("valid");
    let server = &config.servers[&ServerName::new("a")].network;
    assert_eq!(server.written(), list);
    let of_tenant = &config.tenants[&TenantId::new("t")].networks[&ServerName::new("a")];
    assert_eq!(of_tenant.written(), "{ allow = [\"x.example.com:8443\"] }");
    assert_eq!(
        read(&text("\"off\"", "")).expect("valid").servers[&ServerName::new("a")].network,
        Network::Off
    );
    let narrowed = |own: &str| format!("[tenants.t.network]\na = {own}\n");
    for (network, more, part) in [
        ("\"oof\"", String::new(), "did you mean \"off\"?"),
        ("true", String::new(), "must be \"on\", \"off\" or { allow"),
        ("{}", String::new(), "it has no `allow`"),
        ("{ alow = [] }", String::new(), "did you mean `allow`?"),
        (
            "{ allow = \"a.b\" }",
            String::new(),
            "must be a list of hosts",
        ),
        ("{ allow = [] }", String::new(), "write \"off\" instead"),
        (
            "{ allow = [\"*\"] }",
            String::new(),
            "`servers.a.network.allow`: \"*\" would be every host",
        ),
        ("{ allow = [\"https://a.b\"] }", String::new(), "is a URL"),
        (
            "{ allow = [\"a.b:70000\"] }",
            String::new(),
            "has a port that is none",
        ),
        (
            list,
            "sandbox = \"none\"\n".to_owned(),
            "does not hold a server with `sandbox = \"none\"`",
        ),
        (list, narrowed("\"on\""), "gives a tenant more"),
        (
            list,
            narrowed("{ allow = [\"example.com:8443\"] }"),
            "`tenants.t.network.a` \"example.com:8443\" gives a tenant more",
        ),
        (
            "\"off\"",
            narrowed("{ allow = [\"a.b\"] }"),
            "gives a tenant more",
        ),
        (
            list,
            "min_idle = 1\n[tenants.t.network]\na = \"off\"\n".to_owned(),
            "min_idle",
        ),
    ] {
        let error = read(&text(network, &more)).expect_err(network);
        assert!(error.contains(part), "{network} {more}: {error}");
    }
    let doubled = read(&text("{ allow = [\"*.b.c\", \"a.b.c\"] }", "")).expect("valid");
    let warning = &doubled.warnings[0].message;
    assert!(
        warning.contains("\"a.b.c\", which \"*.b.c\" allows already"),
        "{warning}"
    );
}
