//! An npm that is a script: what no registry can be told to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{BINARY, Client};

/// Installs before anyone waits.
pub(super) fn prefetch(dir: &Path) -> String {
    let mut command = assert_cmd::Command::new(BINARY);
    command
        .arg("prefetch")
        .arg("--config")
        .arg(dir.join("pool.toml"));
    let done = command.assert().success();
    String::from_utf8_lossy(&done.get_output().stdout).into_owned()
}

/// An npm that installs the demo server, in the version that the file `version` holds, and notes what
/// it is asked in `asked`. With a file `hold` it waits until that is gone; with a file `broken` it
/// fails.
pub(super) struct Npm(pub(super) TempDir);

impl Npm {
    pub(super) fn new() -> Self {
        let npm = Self(crate::support::open_folder().expect("a folder"));
        let here = npm.0.path().display();
        let scripts = [
            (
                "npm",
                format!(
                    r#"#!/bin/sh
echo "$1" >> {here}/asked
if [ "$1" = root ]; then echo {here}/none; exit; fi
while [ -e {here}/hold ]; do sleep 0.02; done
if [ -e {here}/broken ]; then echo "no such package" >&2; exit 1; fi
version=$(cat {here}/version)
case $1 in
install)
    echo '{{"packages":{{"":{{"dependencies":{{"thing":"'$version'"}}}},"node_modules/thing":{{"version":"'$version'"}}}}}}' > package-lock.json ;;
ci)
    mkdir -p node_modules/.bin node_modules/thing
    echo '{{"bin":{{"thing":"x"}}}}' > node_modules/thing/package.json
    printf '#!/bin/sh\nVERSION=%s exec {BINARY} demo-server "$@"\n' $version > node_modules/.bin/thing
    chmod +x node_modules/.bin/thing ;;
esac
"#
                ),
            ),
            (
                "npx",
                format!("#!/bin/sh\nVERSION=npx exec {BINARY} demo-server\n"),
            ),
        ];
        for (name, text) in scripts {
            let path = npm.0.path().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        npm.put("version", "1.0.0");
        npm
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("written");
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.0.path().join(name)).expect("it was there");
    }

    /// How often it was asked for that.
    pub(super) fn asked(&self, what: &str) -> usize {
        let asked = fs::read_to_string(self.0.path().join("asked")).unwrap_or_default();
        asked.lines().filter(|line| *line == what).count()
    }

    /// A server that runs `npx WORDS` with it; `more` is added.
    pub(super) fn server(&self, name: &str, words: &[&str], more: &str) -> String {
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.0.path().display());
        format!(
            "[servers.{name}]\ncommand = \"npx\"\nargs = {words:?}\nenv = {{ PATH = {path:?} }}\n{more}\n"
        )
    }
}

/// What the worker was started as, by its own account.
pub(super) async fn who(client: &Client) -> Value {
    let said = client.call("whoami", json!({})).await;
    serde_json::from_str(said.text()).expect("JSON")
}

pub(super) async fn version_of(client: &Client) -> String {
    let who = who(client).await;
    who["environment"]["VERSION"]
        .as_str()
        .expect("set by the script")
        .to_owned()
}
