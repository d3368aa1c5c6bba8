//! The keys that are read once, when stdiopool starts: a reload that changes them has to say so.

use secrecy::ExposeSecret;

use super::audit::Audit;
use super::model::{Admin, Config, Http, State};
use super::tracing::Tracing;

impl Config {
    /// The keys in which `new` differs from this config, which is in force, and that take effect with the next
    /// start only. Every field is looked at, so that a new key has to be put on one side or the other.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut keys = of_http(&self.http, &new.http);
        keys.extend(of_admin(&self.admin, &new.admin));
        keys.extend(of_audit(&self.audit, &new.audit));
        keys.extend(of_tracing(&self.tracing, &new.tracing));
        keys.extend(of_state(&self.state, &new.state));
        if self.sandbox != new.sandbox {
            keys.push("sandbox.uids");
        }
        keys
    }
}

fn changed<const N: usize>(all: [(&'static str, bool); N]) -> impl Iterator<Item = &'static str> {
    let all = all.into_iter();
    all.filter(|(_, is_changed)| *is_changed)
        .map(|(key, _)| key)
}

fn of_http(old: &Http, new: &Http) -> Vec<&'static str> {
    let Http {
        listen,
        public_url,
        allowed_origins,
        max_body,
        // In force from the reload on.
        failure_status: _,
        connections: _,
        memory: _,
        // Other certificates are read with the reload; whether there are any is decided at the start.
        tls,
    } = old;
    changed([
        ("http.listen", *listen != new.listen),
        ("http.public_url", *public_url != new.public_url),
        (
            "http.allowed_origins",
            *allowed_origins != new.allowed_origins,
        ),
        ("http.max_body", *max_body != new.max_body),
        ("http.tls", tls.is_some() != new.tls.is_some()),
    ])
    .collect()
}

fn of_admin(old: &Admin, new: &Admin) -> Vec<&'static str> {
    let Admin { listen, token } = old;
    let exposed = |token: &Option<secrecy::SecretString>| {
        token.as_ref().map(|token| token.expose_secret().to_owned())
    };
    changed([
        ("admin.listen", *listen != new.listen),
        ("admin.token", exposed(token) != exposed(&new.token)),
    ])
    .collect()
}

fn of_audit(old: &Audit, new: &Audit) -> Vec<&'static str> {
    let Audit {
        file,
        arguments,
        max_size,
        keep,
    } = old;
    changed([
        ("audit.file", *file != new.file),
        ("audit.arguments", *arguments != new.arguments),
        ("audit.max_size", *max_size != new.max_size),
        ("audit.keep", *keep != new.keep),
    ])
    .collect()
}

fn of_tracing(old: &Tracing, new: &Tracing) -> Vec<&'static str> {
    let Tracing {
        endpoint,
        headers,
        sample_ratio,
        service_name,
    } = old;
    changed([
        ("tracing.endpoint", *endpoint != new.endpoint),
        ("tracing.headers", *headers != new.headers),
        ("tracing.sample_ratio", *sample_ratio != new.sample_ratio),
        ("tracing.service_name", *service_name != new.service_name),
    ])
    .collect()
}

fn of_state(old: &State, new: &State) -> Vec<&'static str> {
    let State {
        dir,
        key,
        // In force from the reload on.
        secrets_refresh: _,
    } = old;
    changed([
        ("state.dir", *dir != new.dir),
        ("state.key", *key != new.key),
    ])
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::parse;
    use super::*;

    fn config(text: &str) -> Config {
        let text = format!("{text}\n[servers.a]\ncommand = \"a\"\n");
        parse(&text, "pool.toml", Path::new("/nowhere")).expect("no mistakes")
    }

    #[test]
    fn what_takes_a_restart_is_named_and_what_does_not_is_not() {
        let old = config("");
        let new = config(
            "[http]\nlisten = \"127.0.0.1:1\"\nconnections = 9\n[admin]\ntoken = \"x\"\nlisten = \"127.0.0.1:2\"\n[audit]\nfile = \"a\"\nkeep = 2\n[tracing]\nsample_ratio = 0.5\n[state]\ndir = \"b\"\nsecrets_refresh = \"1h\"\n[pool]\nmax_workers = 3\n",
        );
        assert_eq!(
            old.needs_restart(&new),
            [
                "http.listen",
                "admin.listen",
                "admin.token",
                "audit.file",
                "audit.keep",
                "tracing.sample_ratio",
                "state.dir"
            ]
        );
        assert!(new.needs_restart(&new).is_empty());
    }
}
