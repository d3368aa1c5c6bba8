//! A registry of npm and PyPI on loopback, and the launchers that ask it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The registry of `tests/fixtures/registry.py`, which ends with this value.
pub(crate) struct Registry {
    child: Child,
    pub(crate) url: String,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With these variables, by which some packages are made.
    pub(crate) fn start_with(env: &[(&str, &Path)]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/registry.py");
        #[allow(clippy::disallowed_methods, reason = "a fixture")]
        let mut child = Command::new("python3")
            .arg(script)
            .envs(env.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a python3");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut url)
            .expect("it says where it listens");
        let url = url.trim_end().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        Self { child, url }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

/// The folder with the programs of a launcher, of those that `tests/launchers.sh` puts in place.
pub(crate) fn launchers(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/launchers");
    let folder = match name {
        "pipx" => root.join("pipx/bin"),
        npm => root.join(npm).join("node_modules/.bin"),
    };
    assert!(
        folder.is_dir(),
        "{} is missing: run tests/launchers.sh",
        folder.display()
    );
    folder
}
