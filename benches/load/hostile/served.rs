//! The pool.toml that is flooded.

use super::super::Result;
use super::super::served::tenant_table;

/// Whose calls are measured, and who floods: numbers of tenants.
pub(crate) const BYSTANDER: usize = 0;
pub(crate) const HOSTILE: usize = 1;

/// Servers of which the floods need something, for two tenants with a token each; `pool` is added to `[pool]`.
///
/// # Errors
/// If the path of the fixture server is no text.
pub(crate) fn toml(pool: &str) -> Result<String> {
    let faulty = env!("CARGO_BIN_EXE_faulty-server");
    let server = |name: &str, args: &str, more: &str| {
        format!("[servers.{name}]\ncommand = {faulty:?}\nargs = [{args}]\n{more}\n")
    };
    let mut toml = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nmax_body = \"8MiB\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[auth]\nmode = \"token\"\n\
         [pool]\nmax_workers_per_tenant = 16\n{pool}\n"
    );
    let demo = "command = \"stdiopool\"\nargs = [\"demo-server\"]\n";
    toml.push_str(&format!("[servers.demo]\n{demo}"));
    // What callers set, and the launch does not use.
    toml.push_str(&format!(
        "[servers.inline]\n{demo}client_config = [\"items\"]\n[servers.inline.config]\ntype = \"object\"\n\
         properties.items = {{ type = \"array\", items = {{ type = \"string\" }} }}\n"
    ));
    toml.push_str(&server("floods", r#""--mode", "floods""#, ""));
    // Takes of the host what it can get.
    toml.push_str(&server(
        "greedy",
        r#""--mode", "floods""#,
        "share = \"session\"\nlimits = { memory = \"128MiB\", pids = 64, disk = \"32MiB\" }\n",
    ));
    toml.push_str(&server("deaf", r#""--mode", "deaf""#, ""));
    toml.push_str(&server(
        "mute",
        r#""--mode", "never-answers""#,
        "share = \"session\"\n",
    ));
    // Starts or fails as its caller says.
    toml.push_str(&server(
        "fragile",
        r#""--mode", "${config.mode}", "--status", "${config.status}""#,
        "share = \"session\"\nclient_config = [\"mode\", \"status\"]\n[servers.fragile.config]\ntype = \"object\"\n\
         properties.mode = { type = \"string\", default = \"none\" }\nproperties.status = { type = \"integer\", default = 1 }\n",
    ));
    // A list of 7 MB, another one for each identity.
    toml.push_str(&server(
        "listing",
        r#""--mode", "floods", "--list-bytes", "7000000", "--identity", "${config.identity}""#,
        "client_config = [\"identity\"]\n[servers.listing.config]\ntype = \"object\"\n\
         properties.identity = { type = \"string\", default = \"none\" }\n",
    ));
    toml.push_str(&tenant_table(BYSTANDER));
    toml.push_str(&tenant_table(HOSTILE));
    Ok(toml)
}
