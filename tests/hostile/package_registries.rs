//! Registries: whose are asked by installs and by workers, and what a caller is told of a package that is not there.

use serde_json::json;

use crate::packages::{Keeper, serve};
use crate::support::Stdiopool;
use crate::support::registry::Registry;

/// Serves that config with the registry in stdiopool's own environment, and in no server's.
fn serve_with_registry(registry: &Registry, toml: &str) -> Stdiopool {
    let dir = crate::support::open_folder().expect("a folder");
    Stdiopool::write_config(dir.path(), "[auth]\nmode = \"none\"\n", toml);
    let config = dir.path().join("pool.toml").display().to_string();
    let index = format!("{}/simple", registry.url);
    let own = [
        ("NPM_CONFIG_REGISTRY", registry.url.as_str()),
        ("UV_DEFAULT_INDEX", index.as_str()),
    ];
    Stdiopool::run(dir, &["--config".to_owned(), config], &own)
}

/// Servers without environments of their own.
fn plain_servers(more: &str) -> String {
    let server = |name: &str, command: &str, args: &[&str]| {
        format!(
            "[servers.{name}]\ncommand = {command:?}\nargs = {args:?}\nstart_timeout = \"120s\"\n{more}\n"
        )
    };
    let npm = server("npm", "npx", &["-y", "keeper@1.0.0"]);
    let pypi = server("pypi", "uvx", &["keeper-py@1.0.0"]);
    format!("{npm}{pypi}")
}

#[tokio::test]
async fn installs_see_the_operators_registry_and_workers_do_not() {
    let registry = Registry::start();
    let as_is = plain_servers("launch = \"as-is\"").replace("[servers.", "[servers.written-");
    let missing = r#"
[servers.missing-npm]
command = "npx"
args = ["-y", "keeper-of-nothing"]
[servers.missing-pypi]
command = "uvx"
args = ["keeper-of-nothing"]
"#;
    let pool = serve_with_registry(&registry, &format!("{}{as_is}{missing}", plain_servers("")));
    for server in ["npm", "pypi"] {
        let about = Keeper::of(&pool, "anna", server).await.about().await;
        let env = about.0["env"].as_object().expect("an object");
        for variable in ["NPM_CONFIG_REGISTRY", "UV_DEFAULT_INDEX"] {
            assert!(!env.contains_key(variable), "{variable}");
        }
    }
    // As written they would ask the public registry for a name that may be private.
    for (server, variable) in [
        ("written-npm", "NPM_CONFIG_REGISTRY"),
        ("written-pypi", "UV_DEFAULT_INDEX"),
        ("missing-npm", "NPM_CONFIG_REGISTRY"),
        ("missing-pypi", "UV_DEFAULT_INDEX"),
    ] {
        let client = pool.client_of("anna", server);
        let refused = client.try_initialize("2025-11-25", json!({})).await;
        assert_eq!(refused.reason(), "start_failed", "{refused:?}");
        let said = refused.message();
        for part in [variable, "another registry", "pool.pass_env"] {
            assert!(said.contains(part), "{server}: {said}");
        }
    }
    let pass = "[pool]\npass_env = [\"NPM_CONFIG_REGISTRY\", \"UV_DEFAULT_INDEX\"]\n";
    let pool = serve_with_registry(&registry, &format!("{pass}{as_is}"));
    for server in ["written-npm", "written-pypi"] {
        let keeper = Keeper::of(&pool, "anna", server).await;
        keeper.recalls(&[]).await;
    }
}

#[tokio::test]
async fn a_caller_is_told_that_the_registry_does_not_have_the_package() {
    let registry = Registry::start();
    // With what would be shown of a credential.
    let with_user = registry.url.replace("http://", "http://me:hunter22@");
    let url = &registry.url;
    let npm = |name: &str, package: &str, url: &str| {
        format!(
            "[servers.{name}]\ncommand = \"npx\"\nargs = [\"-y\", \"{package}\"]\nenv = {{ npm_config_registry = \"{url}\", npm_config_fetch_retries = \"0\" }}\n"
        )
    };
    let pypi = |name: &str, command: &str, package: &str| {
        format!(
            "[servers.{name}]\ncommand = \"{command}\"\nargs = [{package}]\nenv = {{ UV_DEFAULT_INDEX = \"{url}/simple\" }}\n"
        )
    };
    let servers = [
        npm("npm-name", "keeper-of-nothing", &with_user),
        npm("npm-version", "keeper@9.9.9", url),
        pypi("pypi-name", "uvx", "\"keeper-of-nothing\""),
        pypi("pypi-version", "uvx", "\"keeper-py@9.9.9\""),
    ];
    let pool = serve(&servers.concat(), None);
    for (server, package) in [
        ("npm-name", "keeper-of-nothing"),
        ("npm-version", "keeper@9.9.9"),
        ("pypi-name", "keeper-of-nothing"),
        ("pypi-version", "keeper-py==9.9.9"),
    ] {
        let refused = pool
            .client(server)
            .try_initialize("2025-11-25", json!({}))
            .await;
        assert_eq!(refused.reason(), "start_failed", "{refused:?}");
        let said = refused.message();
        let first = said.lines().next().expect("a line");
        let told = format!(
            "server `{server}` could not be started: package `{package}` is not in the registry, or not in that version ("
        );
        assert!(first.starts_with(&told), "{server}: {said}");
        assert!(
            first.ends_with(&format!(
                "correct `servers.{server}.args`, or name the registry that has it"
            )),
            "{said}"
        );
        assert!(!said.contains("hunter22") && first.len() < 800, "{said}");
    }
    assert!(!pool.log().contains("hunter22"), "{}", pool.log());
}
