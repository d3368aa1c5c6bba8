//! From a file, a text or a command line to a config.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inspect::Inspection;
use super::mistake::{ConfigErrors, Mistakes};
use super::model::{Arg, Config};
use super::template::Template;
use crate::ids::ServerName;

/// Reads a pool.toml.
///
/// # Errors
/// When the file cannot be read, or has mistakes: all of them.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    Ok(Inspection::of_file(path)?.verdict()?)
}

/// Reads the text of a pool.toml that is called `file` and whose relative paths start at `base_dir`.
///
/// # Errors
/// All its mistakes.
pub fn parse(text: &str, file: &str, base_dir: &Path) -> Result<Config, Mistakes> {
    Inspection::of_text(text.to_owned(), file, base_dir).verdict()
}

/// The config of `stdiopool serve -- COMMAND`: one server at `/mcp`, for whoever is on this host.
///
/// # Errors
/// When the words are no program and its arguments, or the current folder is gone.
pub fn single_command(argv: Vec<String>) -> Result<Config, ConfigErrors> {
    super::command_line::check(&argv)?;
    let here = std::env::current_dir().map_err(|source| ConfigErrors::Unreadable {
        path: PathBuf::from("."),
        source,
    })?;
    let name = ServerName::new("default");
    let text = "[servers.default]\ncommand = \"placeholder\"\n";
    let mut config = parse(text, "the command line", &here)?;
    let mut argv = argv.into_iter();
    let mut servers = BTreeMap::new();
    if let Some(mut server) = config.servers.remove(&name) {
        server.command = argv.next().unwrap_or_default();
        // Words of a command line are what they are: nothing in them is a reference.
        server.args = argv
            .map(|word| Arg::Always(Template::literal(word)))
            .collect();
        server.cwd = Some(Template::literal(here.display().to_string()));
        servers.insert(name.clone(), server);
    }
    config.servers = servers;
    config.only_server = Some(name);
    config.state.dir = runtime_dir();
    Ok(config)
}

/// Below what the state of a run without a file goes: the user's runtime folder, which the system
/// clears, else the folder for temporary files.
fn runtime_dir() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let given = given.map(PathBuf::from).filter(|dir| dir.is_dir());
    given.unwrap_or_else(std::env::temp_dir)
}
