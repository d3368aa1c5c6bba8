//! Origins of pages in browsers, as browsers write them (WHATWG HTML, 7.1.1; RFC 6454, 6.2).

use std::fmt;

/// The pages that may use the front door from other origins than its own.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origins {
    /// Whether pages of all origins may.
    any: bool,
    /// Origins as browsers write them: in small letters, without a port that goes without saying.
    listed: Vec<String>,
}

/// Why a text is no origin that a browser would send.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}, such as \"https://app.example.com\" or \"http://localhost:3000\"")]
pub struct NoOrigin(String);

impl Origins {
    /// Origins from their texts.
    ///
    /// # Errors
    /// [`NoOrigin`] for the first one that is none.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, NoOrigin> {
        let mut origins = Self::default();
        for text in texts {
            origins.add(text.as_ref())?;
        }
        Ok(origins)
    }

    /// Adds one, or all with `*`.
    ///
    /// # Errors
    /// [`NoOrigin`] when no browser would send it.
    pub fn add(&mut self, text: &str) -> Result<(), NoOrigin> {
        match text {
            "*" => self.any = true,
            text => self.listed.push(normal(text)?),
        }
        Ok(())
    }

    /// Whether pages of that origin may use the front door.
    pub fn allows(&self, origin: &str) -> bool {
        let is_listed = |listed: &String| listed.eq_ignore_ascii_case(origin);
        self.any || self.listed.iter().any(is_listed)
    }

    /// Whether those of all origins may.
    pub fn allows_any(&self) -> bool {
        self.any
    }

    /// Whether none may.
    pub fn is_empty(&self) -> bool {
        !self.any && self.listed.is_empty()
    }
}

fn normal(text: &str) -> Result<String, NoOrigin> {
    let no = |why: fmt::Arguments<'_>| {
        Err(NoOrigin(format!(
            "{why}: an origin is scheme, host and, where it is not the usual one, port"
        )))
    };
    if text.is_empty() {
        return no(format_args!("it is empty"));
    }
    if text == "null" {
        return no(format_args!(
            "\"null\" is what files and sandboxed frames of anybody send"
        ));
    }
    if text.contains('*') {
        return no(format_args!(
            "\"{text}\" would never match, for `*` stands for all origins when it is alone only"
        ));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return no(format_args!("\"{text}\" lacks the scheme"));
    };
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.chars().all(is_of_scheme) {
        return no(format_args!("\"{scheme}\" is no scheme"));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return no(format_args!("\"{text}\" has more than an origin has"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            !host.is_empty() && host.chars().all(is_of_host)
        }
    };
    if !is_host {
        return no(format_args!(
            "\"{host}\" in \"{text}\" is no host as browsers write it (other letters than ASCII in Punycode)"
        ));
    }
    let scheme = scheme.to_ascii_lowercase();
    let usual = match &*scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let host = host.to_ascii_lowercase();
    match port.map(str::parse::<u16>) {
        None => Ok(format!("{scheme}://{host}")),
        Some(Ok(port)) if Some(port) == usual => Ok(format!("{scheme}://{host}")),
        Some(Ok(port)) if port > 0 => Ok(format!("{scheme}://{host}:{port}")),
        Some(_) => no(format_args!("\"{text}\" has a port that is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_matches_what_browsers_send() {
        for (text, sent) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://App.Example.com:443/", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[::1]", "http://[::1]"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
            ("tauri://localhost", "tauri://localhost"),
        ] {
            let origins = Origins::parse(&[text]).expect(text);
            assert!(origins.allows(sent), "{text}: {origins:?}");
            assert!(!origins.allows("https://other.example"), "{text}");
            assert!(!origins.is_empty() && !origins.allows_any());
        }
        let any = Origins::parse(&["*"]).expect("all");
        assert!(any.allows("https://other.example") && any.allows_any());
    }

    #[test]
    fn what_would_never_match_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "null",
            "localhost:3000",
            "app.example.com",
            "http://localhost:*",
            "https://*.example.com",
            "https://app.example.com/path",
            "https://app.example.com//",
            "https://user@app.example.com",
            "https://",
            "https://:443",
            "https://app.example.com:0",
            "https://app.example.com:70000",
            "https://app.example.com:",
            "https://grüße.example",
            "https://app.example.com ",
            "://app.example.com",
            "http://[::1",
        ] {
            let refused = Origins::parse(&[text]).expect_err(text);
            assert!(refused.to_string().contains("https://app"), "{refused}");
        }
    }
}
