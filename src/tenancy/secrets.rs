//! Fetches secrets from where pool.toml says they are.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use tokio_process_stream::{Item, ProcessChunkStream};

use super::secret_error::{MAX_LEN, NoSecret, NotPrinted, SecretError};
use crate::config::SecretSource;
use crate::ids::TenantId;
use crate::launch::{CommandGroup, CommandLine};
use crate::protocol::{Failure, Reason};
use crate::store::Vault;

/// How long a command may take to print one.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what a command printed is used before it is run again for a new session.
const COMMAND_FRESH: Duration = Duration::from_secs(300);

/// When the command was started, and what it printed.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, SecretString)>>>;

/// Fetches secrets, and remembers for a while what commands printed.
#[derive(Debug)]
pub struct Secrets {
    vault: Arc<Vault>,
    printed: Mutex<HashMap<(TenantId, String), Slot>>,
}

impl Secrets {
    /// Where secrets are read; those of the state store are opened with `vault`.
    pub fn new(vault: Arc<Vault>) -> Self {
        Self {
            vault,
            printed: Mutex::default(),
        }
    }

    /// A secret that is no tenant's, such as a key.
    ///
    /// # Errors
    /// Why it is not to be had.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the command it had started.
    pub async fn of_operator(source: &SecretSource) -> Result<SecretString, SecretError> {
        match source {
            SecretSource::Env(variable) => of_environment(variable),
            SecretSource::File(path) => of_file(path).await,
            SecretSource::Command(argv) => run(argv, COMMAND_TIMEOUT).await,
            SecretSource::Stored(_) => Err(SecretError::Stored),
        }
    }

    /// The secret `name` of `tenant`; `None` where there is none and whoever wants it has a default
    /// ([`SecretError::is_unset`]).
    ///
    /// # Errors
    /// [`Reason::ConfigInvalid`] naming the secret. Where it was looked for is the operator's
    /// business: it is logged, and not told to the caller.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the command it had started.
    pub(super) async fn fetch(
        &self,
        tenant: &TenantId,
        name: &str,
        source: &SecretSource,
        has_default: bool,
    ) -> Result<Option<SecretString>, Failure> {
        let fetched = match source {
            SecretSource::Env(variable) => of_environment(variable),
            SecretSource::File(path) => of_file(path).await,
            SecretSource::Command(argv) => self.of_command(tenant, name, argv).await,
            SecretSource::Stored(sealed) => {
                let opened = self.vault.open(tenant.as_str(), name, sealed);
                opened.map_err(SecretError::Vault)
            }
        };
        if has_default && fetched.as_ref().is_err_and(SecretError::is_unset) {
            return Ok(None);
        }
        fetched.map(Some).map_err(|why| {
            tracing::warn!(%tenant, secret = name, "secret not available: {why}");
            Failure::new(
                Reason::ConfigInvalid,
                format!("`secret.{name}` is not available at the moment (the operator finds the cause in the log)"),
            )
        })
    }

    /// One command at a time per secret: who comes meanwhile gets what it printed.
    async fn of_command(
        &self,
        tenant: &TenantId,
        name: &str,
        argv: &[String],
    ) -> Result<SecretString, SecretError> {
        let slot = {
            let mut printed = self.printed.lock();
            Arc::clone(
                printed
                    .entry((tenant.clone(), name.to_owned()))
                    .or_default(),
            )
        };
        let mut slot = slot.lock().await;
        if let Some((at, secret)) = &*slot
            && at.elapsed() < COMMAND_FRESH
        {
            return Ok(secret.clone());
        }
        let started = Instant::now();
        let secret = run(argv, COMMAND_TIMEOUT).await?;
        *slot = Some((started, secret.clone()));
        Ok(secret)
    }

    /// Reads a file or runs a command again, for `users` of it, and gives the digest of the secret.
    /// A resolve meanwhile does not wait for it.
    ///
    /// # Errors
    /// Why it is not to be had; what was read before stays.
    ///
    /// # Cancel-Safety
    /// A dropped call kills the command it had started.
    pub async fn read_again(
        &self,
        source: &SecretSource,
        users: &BTreeSet<(TenantId, String)>,
    ) -> Result<[u8; 32], SecretError> {
        let argv = match source {
            SecretSource::Command(argv) => argv,
            SecretSource::Env(_) | SecretSource::File(_) | SecretSource::Stored(_) => {
                return Self::of_operator(source).await.map(|read| digest(&read));
            }
        };
        let started = Instant::now();
        let printed = run(argv, COMMAND_TIMEOUT).await?;
        for user in users {
            let slot = self.printed.lock().get(user).map(Arc::clone);
            let Some(slot) = slot else {
                continue;
            };
            let mut slot = slot.lock().await;
            // One that was started later knows better.
            if slot.as_ref().is_none_or(|(at, _)| *at <= started) {
                *slot = Some((started, printed.clone()));
            }
        }
        Ok(digest(&printed))
    }
}

/// By what is noticed that a secret is another one. Never to be shown: it tells who knows the secret.
pub(super) fn digest(secret: &SecretString) -> [u8; 32] {
    Sha256::digest(secret.expose_secret().as_bytes()).into()
}

fn of_environment(variable: &str) -> Result<SecretString, SecretError> {
    match std::env::var(variable) {
        Ok(value) if value.trim().is_empty() => {
            Err(SecretError::VariableEmpty(variable.to_owned()))
        }
        Ok(value) => Ok(value.into()),
        Err(std::env::VarError::NotPresent) => Err(SecretError::Unset(variable.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(SecretError::VariableNotText(variable.to_owned()))
        }
    }
}

/// Why a secret is not to be had from a variable or a file; of one that a command prints nothing is said. May block.
pub fn secret_problem(source: &SecretSource) -> Option<SecretError> {
    match source {
        SecretSource::Env(variable) => of_environment(variable).err(),
        SecretSource::File(path) => file_problem(path),
        SecretSource::Command(_) | SecretSource::Stored(_) => None,
    }
}

fn file_problem(path: &Path) -> Option<SecretError> {
    let cannot = |source| SecretError::unreadable(path, source);
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Some(cannot(error)),
    };
    // A pipe or the like may have one reader, and that is not this one.
    if !metadata.is_file() && !metadata.is_dir() {
        return None;
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_LEN as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => {
            let why = text(bytes).err()?;
            Some(SecretError::in_file(path, why))
        }
        Err(error) => Some(cannot(error)),
    }
}

async fn of_file(path: &Path) -> Result<SecretString, SecretError> {
    let cannot = |source| SecretError::unreadable(path, source);
    let file = tokio::fs::File::open(path).await.map_err(cannot)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(MAX_LEN as u64 + 1);
    bounded.read_to_end(&mut bytes).await.map_err(cannot)?;
    text(bytes).map_err(|why| SecretError::in_file(path, why))
}

/// What was read as a secret: a line break at its end is not part of it.
fn text(bytes: Vec<u8>) -> Result<SecretString, NoSecret> {
    if bytes.len() > MAX_LEN {
        return Err(NoSecret::TooLong);
    }
    let mut text = String::from_utf8(bytes).map_err(|_| NoSecret::NotText)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    // Blanks alone are what a template leaves whose value was not there.
    if text.trim().is_empty() {
        return Err(NoSecret::Nothing);
    }
    Ok(text.into())
}

/// Runs a command with stdiopool's own environment and takes what it prints.
async fn run(argv: &[String], limit: Duration) -> Result<SecretString, SecretError> {
    let Some((program, args)) = argv.split_first() else {
        return Err(SecretError::NoCommand);
    };
    let line = CommandLine {
        program,
        args: args.iter().map(String::as_str).collect(),
        env: None,
        dir: None,
        stdin: None,
        confinement: None,
    };
    let program = || program.clone();
    let mut running = CommandGroup::start(line).map_err(|source| SecretError::NotRun {
        program: program(),
        source,
    })?;
    match tokio::time::timeout(limit, output(running.output())).await {
        Ok(printed) => printed.map_err(|why| SecretError::Command {
            program: program(),
            why,
        }),
        Err(_elapsed) => Err(SecretError::TooSlow {
            program: program(),
            limit,
        }),
    }
}

async fn output(stream: &mut ProcessChunkStream) -> Result<SecretString, NotPrinted> {
    let mut printed = Vec::new();
    while let Some(item) = stream.next().await {
        match item {
            Item::Stdout(chunk) => {
                printed.extend_from_slice(&chunk);
                if printed.len() > MAX_LEN {
                    return Err(NotPrinted::TooMuch);
                }
            }
            // A secret may be in that too, and whoever is told what is wrong may be a client.
            Item::Stderr(_) => {}
            Item::Done(Ok(status)) if status.success() => {
                return text(printed).map_err(NotPrinted::NoSecret);
            }
            Item::Done(Ok(status)) => return Err(NotPrinted::Ended { status }),
            Item::Done(Err(error)) => return Err(NotPrinted::NotWaitedFor(error)),
        }
    }
    Err(NotPrinted::NoStatus)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error is a text: what a user reads of it is compared.
    async fn shell(script: &str) -> Result<String, String> {
        let argv = ["sh", "-c", script].map(ToOwned::to_owned);
        let printed = run(&argv, Duration::from_secs(5)).await;
        let printed = printed.map(|secret| secret.expose_secret().to_owned());
        printed.map_err(|why| why.to_string())
    }

    #[tokio::test]
    async fn what_a_command_prints_is_the_secret() {
        assert_eq!(
            shell("echo noise >&2; echo s3cr3t").await,
            Ok("s3cr3t".into())
        );
        assert_eq!(shell("printf 'a b\\r\\n'").await, Ok("a b".into()));
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told() {
        let error = |script| async move { shell(script).await.expect_err("fails") };
        // Nothing of what it wrote: it may be the secret, or a part of it.
        assert_eq!(
            error("printf s3cr; echo s3cr3t is no good >&2; exit 3").await,
            "`sh` ended with exit status: 3; what it said is not shown, as a secret may be in it: run it by hand to see that"
        );
        for script in ["true", "echo; echo", "printf '  \\n'"] {
            assert_eq!(error(script).await, "`sh` printed what holds nothing");
        }
        assert_eq!(
            error("printf '\\377'").await,
            "`sh` printed what is not UTF-8"
        );
        assert_eq!(
            error("head -c 70000 /dev/zero").await,
            "`sh` printed more than 65536 bytes"
        );
        let argv = ["no-such-program-anywhere".to_owned()];
        let missing = run(&argv, COMMAND_TIMEOUT).await.expect_err("fails");
        let missing = missing.to_string();
        assert!(missing.contains("no-such-program-anywhere"), "{missing}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().join("pids");
        let script = format!("sleep 1000 & echo $! $$ > {}; wait", pids.display());
        let argv = ["sh", "-c", &script].map(ToOwned::to_owned);
        let error = run(&argv, Duration::from_millis(300))
            .await
            .expect_err("hangs");
        assert_eq!(error.to_string(), "`sh` did not end within 300ms");
        let text = std::fs::read_to_string(pids).expect("it ran");
        for pid in text.split_whitespace() {
            let lives = || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
                stat.is_ok_and(|stat| !stat.contains(") Z "))
            };
            let deadline = Instant::now() + Duration::from_secs(10);
            while lives() {
                assert!(Instant::now() < deadline, "{pid} lives");
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_command_runs_once_and_a_file_is_read_each_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let count = folder.path().join("count");
        let script = format!("echo x >> {0}; echo key", count.display());
        let source = SecretSource::Command(["sh", "-c", &script].map(ToOwned::to_owned).to_vec());
        let (secrets, tenant) = (
            Secrets::new(Arc::new(Vault::without_key())),
            TenantId::new("acme"),
        );
        for _ in 0..3 {
            let fetched = secrets.fetch(&tenant, "k", &source, false).await;
            assert!(fetched.expect("printed").is_some());
        }
        assert_eq!(std::fs::read_to_string(count).expect("ran"), "x\n");
        let file = folder.path().join("key");
        let source = SecretSource::File(file.clone());
        let missing = secrets
            .fetch(&tenant, "f", &source, true)
            .await
            .expect_err("missing");
        assert!(missing.message.contains("secret.f") && !missing.message.contains("key"));
        for text in ["one\n", "two"] {
            std::fs::write(&file, text).expect("written");
            let read = secrets.fetch(&tenant, "f", &source, true).await;
            let read = read.expect("read").expect("there");
            assert_eq!(read.expose_secret(), text.trim());
        }
        // A variable that is not set gives no value, so that a template's default holds.
        let unset = SecretSource::Env("STDIOPOOL_TEST_NO_SUCH_VARIABLE".to_owned());
        let without = secrets.fetch(&tenant, "e", &unset, true).await;
        assert!(without.expect("the default holds").is_none());
        let needed = secrets.fetch(&tenant, "e", &unset, false).await;
        assert!(needed.is_err());
    }
}
