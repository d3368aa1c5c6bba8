//! Another bridge or another stdiopool to measure, as it is given on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// `NAME=URL[,pid=N][,tool=T][,argument=A]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) name: String,
    /// Host and port.
    pub(crate) address: String,
    /// Path and query.
    pub(crate) path: String,
    /// Its process, if what it costs is to be measured.
    pub(crate) pid: Option<u32>,
    /// A tool that gives a text back.
    pub(crate) tool: String,
    /// The argument with the text.
    pub(crate) argument: String,
}

/// What the rows of the report are called that are always there.
const TAKEN: [&str; 3] = ["raw pipe", "bare http", "stdiopool"];

/// What is wrong with it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBridge {
    #[error("`{0}` is not NAME=URL[,pid=N][,tool=T][,argument=A]")]
    Form(String),
    #[error("`{url}` is no URL: {why}")]
    Url { url: String, why: String },
    #[error("`{0}` does not begin with http:// and a host: the load client speaks no TLS")]
    Scheme(String),
    #[error("pid is `{0}`, must be the number of a process")]
    Pid(String),
    #[error("a row is called `{0}` already: give the bridge another name")]
    Name(String),
    #[error("no option `{0}`; there are pid, tool and argument")]
    Option(String),
    #[error("`{0}` is not NAME=PATH")]
    Build(String),
    #[error("there is no file {0:?}: build that stdiopool first")]
    NoFile(PathBuf),
}

impl FromStr for Bridge {
    type Err = BadBridge;

    fn from_str(text: &str) -> Result<Self, BadBridge> {
        let form = || BadBridge::Form(text.to_owned());
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let mut parts = rest.split(',');
        let written = parts.next().unwrap_or_default();
        if name.is_empty() || written.is_empty() {
            return Err(form());
        }
        if TAKEN.contains(&name) {
            return Err(BadBridge::Name(name.to_owned()));
        }
        let url = Url::parse(written).map_err(|error| BadBridge::Url {
            url: written.to_owned(),
            why: error.to_string(),
        })?;
        let scheme = || BadBridge::Scheme(written.to_owned());
        if url.scheme() != "http" {
            return Err(scheme());
        }
        let host = url.host_str().ok_or_else(scheme)?;
        let mut bridge = Self {
            name: name.to_owned(),
            address: format!("{host}:{}", url.port_or_known_default().unwrap_or(80)),
            path: url[url::Position::BeforePath..url::Position::AfterQuery].to_owned(),
            pid: None,
            tool: "echo".to_owned(),
            argument: "message".to_owned(),
        };
        for part in parts {
            match part.split_once('=').ok_or_else(form)? {
                ("pid", pid) => {
                    let number = pid.parse().map_err(|_| BadBridge::Pid(pid.to_owned()))?;
                    bridge.pid = Some(number);
                }
                ("tool", tool) => tool.clone_into(&mut bridge.tool),
                ("argument", argument) => argument.clone_into(&mut bridge.argument),
                (other, _) => return Err(BadBridge::Option(other.to_owned())),
            }
        }
        Ok(bridge)
    }
}

/// `NAME=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OtherBuild {
    pub(crate) name: String,
    /// A binary of stdiopool.
    pub(crate) binary: PathBuf,
}

impl FromStr for OtherBuild {
    type Err = BadBridge;

    fn from_str(text: &str) -> Result<Self, BadBridge> {
        let build = || BadBridge::Build(text.to_owned());
        let (name, path) = text.split_once('=').ok_or_else(build)?;
        if name.is_empty() || path.is_empty() {
            return Err(build());
        }
        if TAKEN.contains(&name) {
            return Err(BadBridge::Name(name.to_owned()));
        }
        let binary = PathBuf::from(path);
        if !binary.is_file() {
            return Err(BadBridge::NoFile(binary));
        }
        Ok(Self {
            name: name.to_owned(),
            binary,
        })
    }
}
