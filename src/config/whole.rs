//! Reads the text of a pool.toml whole, and checks what concerns more than one of its tables.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::doubts;
use super::mistake::Mistake;
use super::model::{Arg, AuthMode, Config};
use super::notes::Notes;
use super::odd::{Odd, path};
use super::read;
use super::reader::Reader;
use super::template::{Piece, Reference};

/// Reads all that a text says, and all mistakes in it. Without TOML there is no config.
pub(super) fn read_whole(text: &str, base_dir: &Path) -> (Option<Config>, Vec<Mistake>) {
    let (tree, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        let place = |error: &toml::de::Error| {
            let span = error.span().unwrap_or(0..0);
            let mistake = Mistake::new(text, span, error.message().to_owned());
            // Without structure, only the words tell that a secret may stand there.
            if mistake.mentions(&["token", "secret"]) {
                mistake.unquoted()
            } else {
                mistake
            }
        };
        return (None, syntax.iter().map(place).collect());
    }
    let mut notes = Notes::of(text);
    let mut root = Reader::new(&mut notes, Some(tree.get_ref()), 0..0, "");
    let mut config = read::config(&mut root, base_dir);
    check_whole(&mut root, &config);
    let warnings = [
        unknown_secrets,
        shown_secrets,
        nowhere_to_return,
        doubts::doubts,
    ];
    for (path, message) in warnings.iter().flat_map(|found| found(&config)) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let span = root.span(&path);
        root.notes.warnings.push((span, message));
    }
    root.finish();
    config.warnings = notes.take_warnings();
    (Some(config), notes.into_mistakes(text))
}

/// Checks what concerns more than one table.
fn check_whole(root: &mut Reader<'_, '_>, config: &Config) {
    if let Some(why) = exposed(config) {
        root.wrong("http", why);
    }
    if let Some(why) = listens_twice(config) {
        root.wrong("admin", why);
    }
    if config.servers.is_empty() && !root.has("servers") {
        root.wrong(
            "servers",
            "there is no server: add a table such as [servers.demo] with `command`",
        );
    }
    let separator = &config.aggregate.separator;
    let offered = config
        .servers
        .iter()
        .filter(|(_, server)| server.is_aggregated);
    for (name, _) in offered {
        if !is_told_apart(name.as_str(), separator) {
            root.wrong("servers", format!("the things of server `{name}` cannot be told apart where `/mcp` offers all servers as one: its name runs into the separator \"{separator}\" (set `servers.{name}.aggregate = false`, another `aggregate.separator`, or another name)"));
        }
    }
    if let Some(mistake) = trusts_servers(config) {
        let span = root.span(&["auth", "trusted_proxies"]);
        root.notes.mistakes.push((span.unwrap_or(0..0), mistake));
    }
    for (rule, why) in doubts::aimless_rules(config) {
        let span = root.span(&["policy", rule, "servers"]);
        root.notes.mistakes.push((span.unwrap_or(0..0), why));
    }
    if config.auth.mode == AuthMode::Token && config.tenants.values().all(|t| t.tokens.is_empty()) {
        let warning = "`auth.mode` is \"token\" and no tenant of this file lists a token: nobody comes in before `stdiopool token create` has made one";
        let span = root.span(&["auth", "mode"]);
        root.notes.warnings.push((span, warning.to_owned()));
    }
}

/// Proxies on this host that show nothing which its servers do not have.
fn trusts_servers(config: &Config) -> Option<String> {
    let AuthMode::Header(headers) = &config.auth.mode else {
        return None;
    };
    if !headers.secrets.is_empty() || config.has_client_certificates() {
        return None;
    }
    let network = headers.trusted_loopback()?;
    Some(format!(
        "`auth.trusted_proxies` has {network}, and servers run on this host too: each could name any tenant. Have the proxy send a secret in `auth.secret_header` and list its hash in `auth.proxy_secrets`, or a certificate of `http.tls.client_ca`"
    ))
}

/// Whether the first separator in the names of that server's things is the one after its own name.
fn is_told_apart(server: &str, separator: &str) -> bool {
    format!("{server}{separator}").find(separator) == Some(server.len())
}

fn exposed(config: &Config) -> Option<String> {
    let listen = config.http.listen;
    (config.auth.is_open() && !listen.ip().is_loopback()).then(|| {
        format!("`http.listen` is not a loopback address ({listen}) and `auth.mode` is \"none\": set `auth.mode = \"token\"`, or listen on 127.0.0.1")
    })
}

/// Two listeners cannot share a port, unless each has an address of its own.
fn listens_twice(config: &Config) -> Option<String> {
    let (http, admin) = (config.http.listen, config.admin.listen);
    // Port 0 is one of the system's choice each time.
    if http.port() != admin.port() || http.port() == 0 {
        return None;
    }
    if http == admin {
        return Some(format!(
            "`http.listen` and `admin.listen` are the same ({http}): choose another port for one"
        ));
    }
    let is_all = http.ip().is_unspecified() || admin.ip().is_unspecified();
    is_all.then(|| {
        format!("`http.listen` ({http}) and `admin.listen` ({admin}) have the same port, and one of them every address: choose another port for one")
    })
}

impl Config {
    /// Checks again what an address given on the command line may have changed.
    ///
    /// # Errors
    /// What would be open to everyone, or cannot be listened on twice.
    pub fn check_exposure(&self) -> Result<(), Exposed> {
        let why = exposed(self).or_else(|| listens_twice(self));
        why.map_or(Ok(()), |why| Err(Exposed(why)))
    }
}

/// An address that would be open to everyone, or cannot be listened on twice, told like a mistake of the file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Exposed(String);

/// Secrets in arguments: whoever can list processes of this host can read them.
fn shown_secrets(config: &Config) -> Vec<Odd> {
    let mut warnings = Vec::new();
    for (name, server) in &config.servers {
        let mut tokens = server.references();
        if tokens.any(|(place, reference)| place == "args" && reference == Reference::OAuthToken) {
            warnings.push((path(["servers", name.as_str(), "args"]), format!(
                "server `{name}` has `oauth.access_token` in its arguments, which other processes of this host can read: put it into `env`, or the path of a private file in its place with `${{oauth.access_token | file}}`"
            )));
        }
        let shown: BTreeSet<_> = server
            .references()
            .filter_map(|(place, reference)| match reference {
                Reference::Secret(secret) if place == "args" => Some(secret),
                _ => None,
            })
            .collect();
        for secret in shown {
            warnings.push((path(["servers", name.as_str(), "args"]), format!(
                "server `{name}` has `secret.{secret}` in its arguments, which other processes of this host can read: put it into `env`, or the path of a private file in its place with `${{secret.{secret} | file}}`"
            )));
        }
    }
    warnings
}

/// Servers that cannot be authorised upstream: the provider could not send a browser back.
fn nowhere_to_return(config: &Config) -> Vec<Odd> {
    let listen = config.http.listen;
    let is_known = config.http.public_url.is_some() || listen.ip().is_loopback();
    let server = config
        .servers
        .iter()
        .find(|(_, server)| server.oauth.is_some());
    let found = server.filter(|_| !is_known).map(|(name, _)| {
        let why = format!(
            "server `{name}` cannot be authorised upstream: `http.listen` ({listen}) is no address for a browser; set `http.public_url`"
        );
        (path(["servers", name.as_str(), "oauth"]), why)
    });
    found.into_iter().collect()
}

/// Secrets that templates name and no tenant has: every request of the server would be refused.
fn unknown_secrets(config: &Config) -> Vec<Odd> {
    let mut warnings = Vec::new();
    for (name, server) in &config.servers {
        let of_args = server.args.iter().enumerate().flat_map(|(at, arg)| {
            let templates = match arg {
                Arg::Always(template) => std::slice::from_ref(template),
                Arg::When { args, .. } => args.as_slice(),
            };
            let at = at.to_string();
            let place = move |template| (vec!["args".to_owned(), at.clone()], template);
            templates.iter().map(place)
        });
        let of_env = server.env.iter();
        let of_env = of_env.map(|(name, template)| (path(["env", name]), template));
        let cwd = server.cwd.iter().map(|template| (path(["cwd"]), template));
        let templates = of_args.chain(of_env).chain(cwd);
        let references = templates.flat_map(|(place, template)| {
            let needed = template.pieces().iter().filter_map(|piece| match piece {
                Piece::Value {
                    reference,
                    default: None,
                } => Some(reference),
                Piece::Value { .. } | Piece::Literal(_) => None,
            });
            needed.map(move |reference| (place.clone(), reference))
        });
        for (place, reference) in references {
            if let Reference::Secret(secret) | Reference::SecretFile(secret) = reference
                && !server.client_secrets.contains(secret)
                && !config
                    .tenants
                    .values()
                    .any(|tenant| tenant.secrets.contains_key(secret))
            {
                let place = [path(["servers", name.as_str()]), place].concat();
                warnings.push((place, format!(
                    "server `{name}` needs `secret.{secret}`, which no tenant of this file has (`stdiopool secret set` gives one a secret)"
                )));
            }
        }
    }
    warnings
}
