//! A node and an npm that are shims of a version manager, as asdf, nodenv and volta have them, install packages though what fetches these is kept
//! to its own folders: shims read what the manager has in the operator's home, use TMPDIR, and go on where they cannot write.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::registry::{Registry, launchers};
use super::support::{Stdiopool, open_folder};

/// What shims run: reads which version is meant in the folders above, else in its own; goes through the versions by a file in TMPDIR and a here-string;
/// notes its use, where it may. With a variable, its npm is one of before 11, which knows no setting of git's.
const MANAGER: &str = r#"#!/usr/bin/env bash
set -e
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=$2
shift 2
folder=$PWD
while [ "$folder" != / ] && [ ! -f "$folder/.tool-versions" ]; do folder=$(dirname "$folder"); done
versions=$folder/.tool-versions
[ -f "$versions" ] || versions=$root/tool-versions
read -r _ version <<<"$(grep '^nodejs ' "$versions")"
list=$(mktemp "${TMPDIR:-/tmp}/manager.XXXXXX")
ls "$root/installs/nodejs" > "$list"
grep -qx "$version" "$list"
rm "$list"
{ echo "$name" >> "$root/used"; } 2>/dev/null || true
if [ -n "$NPM_IS_OLD" ] && [ "$name $1 $2 $3" = "npm config get allow-git" ]; then
    echo allow-git=undefined
    shift 3
    set -- config get "$@"
fi
exec "$root/installs/nodejs/$version/bin/$name" "$@"
"#;

fn program(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
}

/// A home that only its owner passes, as root's is, with a version manager in it.
struct Home(TempDir);

impl Home {
    fn with_manager() -> Self {
        let home = Self(tempfile::tempdir().expect("a folder"));
        let root = home.manager();
        let bin = root.join("installs/nodejs/20.1.0/bin");
        for folder in [&bin, &root.join("bin"), &root.join("shims")] {
            fs::create_dir_all(folder).expect("made");
        }
        fs::write(root.join("tool-versions"), "nodejs 20.1.0\n").expect("written");
        let manager = root.join("bin/manager");
        program(&manager, MANAGER);
        let npm = launchers("npm11");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path);
        let node = folders.find(|folder| folder.join("node").is_file());
        for (name, folder) in [
            ("node", node.expect("there is a node")),
            ("npm", npm.clone()),
            ("npx", npm),
        ] {
            let real = folder.join(name).canonicalize().expect("there");
            symlink(real, bin.join(name)).expect("made");
            let shim = format!(
                "#!/usr/bin/env bash\nexec \"{}\" exec \"{name}\" \"$@\"\n",
                manager.display()
            );
            program(&root.join("shims").join(name), &shim);
        }
        let closed = fs::Permissions::from_mode(0o700);
        fs::set_permissions(home.0.path(), closed).expect("set");
        home
    }

    fn manager(&self) -> PathBuf {
        self.0.path().join(".manager")
    }

    /// The programs that were used where they could note it.
    fn used(&self) -> Vec<String> {
        let used = fs::read_to_string(self.manager().join("used")).unwrap_or_default();
        used.lines().map(ToOwned::to_owned).collect()
    }
}

#[tokio::test]
async fn packages_are_installed_by_the_shims_of_a_version_manager() {
    let (home, registry) = (Home::with_manager(), Registry::start());
    let server = |name: &str, package: &str, env: &str| {
        format!(
            "[servers.{name}]\ncommand = \"npx\"\nargs = [\"-y\", {package:?}]\nstart_timeout = \"120s\"\n[servers.{name}.env]\nnpm_config_registry = {:?}\n{env}\n",
            registry.url
        )
    };
    let old = "NPM_IS_OLD = \"1\"";
    let toml = [
        "[pool]\nqueue_timeout = \"5m\"\n".to_owned(),
        server("plain", "aged@1.0.0", ""),
        // Its script runs apart, as another user where stdiopool is root.
        server("scripted", "needing", ""),
        // Its versions are found out apart, too.
        server("old", "needing", old),
    ];
    let dir = open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", &toml.concat());
    let config = dir.path().join("pool.toml").display().to_string();
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", home.manager().join("shims").display());
    let pool = Stdiopool::run(
        dir,
        &["--config".to_owned(), config],
        &[("PATH", path.as_str())],
    );
    for server in ["plain", "scripted", "old"] {
        let client = pool.client(server).connect().await;
        let answer = client.call("tell", json!({})).await;
        let told: Value = serde_json::from_str(answer.text()).expect("JSON");
        assert_eq!(told["version"], "1.0.0", "{told}");
    }
    let log = pool.log();
    assert!(!log.contains("as written"), "{log}");
    let used = home.used();
    // Which version of Node there is, is asked without a sandbox.
    assert!(used.iter().any(|name| name == "node"), "{used:?}");
    if !log.contains("without Landlock") {
        assert!(!used.iter().any(|name| name == "npm"), "{used:?}");
    }
}
