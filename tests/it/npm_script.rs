//! An npm that is a script: what no registry can be told to do.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

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

/// What an npm was asked. It says so over the loopback: where it finds out versions and fetches, it may write to no file of a test's.
struct Asked {
    words: Arc<Mutex<Vec<String>>>,
    address: SocketAddr,
    listening: Option<JoinHandle<()>>,
}

impl Asked {
    /// What ends the listening.
    const ENDED: &str = "the test has ended";

    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let words = Arc::<Mutex<Vec<String>>>::default();
        let noted = Arc::clone(&words);
        let listening = std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut word = String::new();
                // One that is killed meanwhile asks for nothing.
                let read = BufReader::new(&stream).read_line(&mut word);
                match word.trim_end() {
                    Self::ENDED => return,
                    word if read.is_ok() && !word.is_empty() => {
                        noted.lock().expect("not poisoned").push(word.to_owned());
                        let _killed = stream.write_all(b"noted\n");
                    }
                    _ => {}
                }
            }
        });
        Self {
            words,
            address,
            listening: Some(listening),
        }
    }

    fn count(&self, what: &str) -> usize {
        let words = self.words.lock().expect("not poisoned");
        words.iter().filter(|word| *word == what).count()
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let told = TcpStream::connect(self.address)
            .and_then(|mut stream| writeln!(stream, "{}", Self::ENDED));
        if let Some(listening) = self.listening.take().filter(|_| told.is_ok()) {
            let _panicked = listening.join();
        }
    }
}

/// An npm that installs the demo server, in the version that the file `version` holds. With a file `hold` it waits until
/// that is gone; with a file `broken` it fails.
pub(super) struct Npm {
    folder: TempDir,
    asked: Asked,
}

impl Npm {
    pub(super) fn new() -> Self {
        let npm = Self {
            folder: crate::support::open_folder().expect("a folder"),
            asked: Asked::listen(),
        };
        let here = npm.folder().display();
        let port = npm.asked.address.port();
        let scripts = [
            (
                "npm",
                format!(
                    r#"#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/{port} || exit
echo "$1" >&3
read -r _noted <&3 || exit
exec 3>&-
if [ "$1" = root ]; then echo {here}/none; exit; fi
# As a real one that has no such setting.
if [ "$1" = config ]; then echo undefined; exit; fi
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
            let path = npm.folder().join(name);
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        }
        npm.put("version", "1.0.0");
        npm
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        fs::write(self.folder().join(name), text).expect("written");
    }

    pub(super) fn remove(&self, name: &str) {
        fs::remove_file(self.folder().join(name)).expect("it was there");
    }

    /// Where its programs are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How often it was asked for that.
    pub(super) fn asked(&self, what: &str) -> usize {
        self.asked.count(what)
    }

    /// A server that runs `npx WORDS` with it; `more` is added.
    pub(super) fn server(&self, name: &str, words: &[&str], more: &str) -> String {
        let path = std::env::var("PATH").expect("a PATH");
        let path = format!("{}:{path}", self.folder().display());
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
