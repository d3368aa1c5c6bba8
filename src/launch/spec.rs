//! The launch spec: everything about a process that does not change while it runs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::sandbox::{RunsAs, Sandbox};
use super::secret_files::SecretFiles;
use crate::fields;
use crate::ids::{TenantId, WorkerId};

/// Folders beside private views in which npm and uv keep what they download and install when a line of theirs is run as
/// written: caches, tools, Pythons.
pub const LAUNCHER_FOLDERS: [&str; 4] = ["npm", "uv", "uv-tools", "uv-python"];

/// Limits on a worker. `None`: none, or the one that is inherited.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ProcessLimits {
    /// `RLIMIT_NOFILE`: open file descriptors.
    pub open_files: Option<u64>,
    /// `RLIMIT_CPU`: seconds of CPU time, summed over the life of each process; then SIGKILL.
    pub cpu_seconds: Option<u64>,
    /// Processes and threads of a worker, by its control group.
    pub pids: Option<u64>,
    /// Bytes of memory of a worker, by its control group, an eighth above.
    pub memory: Option<u64>,
    /// Thousandths of a processor for a worker, by its control group.
    pub cpu_millis: Option<u64>,
    /// Weight of a worker beside others of its tenant, by its control group, 1 to 10,000; 100 without.
    pub cpu_weight: Option<u64>,
    /// Bytes of its own folders on the disk. `RLIMIT_FSIZE` of each process, and measured.
    pub disk: Option<u64>,
}

/// The launch of one process: resolved argv, environment, working directory and limits of one process.
///
/// Arguments and environment may hold a tenant's secrets, so neither `Debug` nor an error shows them.
#[derive(Clone)]
pub struct LaunchSpec {
    /// The command, looked up in the `PATH` of [`LaunchSpec::env`] unless it has a slash.
    pub program: String,
    /// The tenant of the process: all processes of a tenant have one share of the processors, where control groups give each its own.
    /// `None` for a spare, which is nobody's yet. Not part of the fingerprint: the pool key has it.
    pub tenant: Option<TenantId>,
    /// Arguments after the program.
    pub args: Vec<SecretString>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, SecretString>,
    /// Working directory; must exist when the process starts.
    pub cwd: PathBuf,
    /// Where each process has a folder of its own, which goes with it, for its HOME and TMPDIR.
    /// For servers whose launch is one for every tenant.
    pub scratch: Option<PathBuf>,
    /// `file://` URIs of the folders it is told are its roots; none: its clients are asked.
    pub roots: Vec<String>,
    /// Kernel limits.
    pub limits: ProcessLimits,
    /// Whether the process may gain privileges by executing a set-user-ID program (PR_SET_NO_NEW_PRIVS).
    pub may_gain_privileges: bool,
    /// The sandbox that keeps the process apart from other tenants', beside its environment and folders; `None` for
    /// `sandbox = "none"`.
    pub sandbox: Option<Sandbox>,
    /// Folders (with mode 0700) to create before the start, such as the private TMPDIR.
    pub folders: Vec<PathBuf>,
    /// Where private views of packages are made for it. Not part of the fingerprint: it follows from whose it is.
    pub packages: PathBuf,
    /// Dependencies of its package that it may write beside their code, like the package itself; `*` for all.
    pub writable: Vec<String>,
    /// Folders that it must not write to, where the host can see to that. Not part of the fingerprint: they are
    /// one for all launches.
    pub read_only: Vec<PathBuf>,
    /// Secrets that it reads from files of its own.
    pub secret_files: SecretFiles,
    /// Digests of those of its secrets that came from files and commands, by name: by these is
    /// noticed that one has changed there. Not part of the fingerprint, as the secrets are.
    pub sourced: BTreeMap<String, [u8; 32]>,
    /// Masks the secrets above wherever text of the process is shown.
    pub redactor: Redactor,
    /// The access token upstream that is among the secrets, if one is.
    pub token: Option<TokenMark>,
}

/// Tells one access token in a launch from the next, which leads to an equal launch otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenMark {
    /// Each token has another number.
    pub serial: u64,
    /// Fingerprint of the launch without its token: equal for all tokens of one authorisation.
    pub lasting: [u8; 32],
}

impl LaunchSpec {
    /// The length of the arguments and the environment, in bytes.
    pub fn bytes(&self) -> usize {
        let args = self.args.iter().map(|arg| arg.expose_secret().len());
        let env = self.env.iter();
        let env = env.map(|(name, value)| name.len() + value.expose_secret().len());
        args.chain(env).sum()
    }

    /// Equal for launches that differ in nothing but the access token of one authorisation.
    pub fn lasting_fingerprint(&self) -> [u8; 32] {
        self.token
            .map_or_else(|| self.fingerprint(), |token| token.lasting)
    }

    /// The folder that worker has for itself.
    pub fn scratch_of(&self, worker: WorkerId) -> Option<PathBuf> {
        let scratch = self.scratch.as_ref()?;
        Some(scratch.join(worker.to_string()))
    }

    /// The launch of that worker: this one, in its own folder where it has one, with the paths
    /// of its own files.
    pub fn for_worker(&self, worker: WorkerId) -> Cow<'_, Self> {
        let mut spec = self.in_scratch(worker);
        if let Some(sandbox) = &self.sandbox
            && matches!(sandbox.runs_as, RunsAs::OneOf(_))
            && let Some(sandbox) = &mut spec.to_mut().sandbox
        {
            sandbox.for_worker(worker);
        }
        if self.secret_files.folder_of(worker).is_none() {
            return spec;
        }
        let mut spec = spec.into_owned();
        spec.secret_files = self.secret_files.for_worker(worker);
        for text in spec.args.iter_mut().chain(spec.env.values_mut()) {
            if let Some(placed) = self.secret_files.placed(text, worker) {
                *text = placed;
            }
        }
        Cow::Owned(spec)
    }

    /// Nothing is left of that worker, nor of what it had for its life.
    pub fn give_back(&self, worker: WorkerId) {
        if let Some(Sandbox {
            runs_as: RunsAs::OneOf(user_pool),
            ..
        }) = &self.sandbox
        {
            user_pool.release(worker);
        }
    }

    fn in_scratch(&self, worker: WorkerId) -> Cow<'_, Self> {
        let Some(folder) = self.scratch_of(worker) else {
            return Cow::Borrowed(self);
        };
        let (home, tmp) = (folder.join("home"), folder.join("tmp"));
        let mut spec = self.clone();
        for (name, path) in [("HOME", &home), ("TMPDIR", &tmp)] {
            let of_its_own = || path.display().to_string().into();
            spec.env.entry(name.to_owned()).or_insert_with(of_its_own);
        }
        if spec.cwd.as_os_str().is_empty() {
            spec.cwd.clone_from(&home);
        }
        spec.packages = folder.join("packages");
        spec.folders = vec![home, tmp];
        Cow::Owned(spec)
    }

    /// The arguments in the clear, for whoever has to understand them. Never to be shown.
    pub fn exposed_args(&self) -> Vec<&str> {
        self.args.iter().map(|arg| arg.expose_secret()).collect()
    }

    /// The arguments for people, secrets redacted as [`Redactor::redact`] does.
    pub fn redacted_args(&self) -> impl Iterator<Item = String> {
        let args = self.args.iter();
        args.map(|arg| self.redactor.redact(arg.expose_secret()))
    }

    /// A digest equal for equal launches and only for those; part of the pool key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            fields::put(bytes, |part| hash.update(part));
        };
        field(self.program.as_bytes());
        field(&(self.args.len() as u64).to_le_bytes());
        for arg in &self.args {
            field(arg.expose_secret().as_bytes());
        }
        for (name, value) in &self.env {
            field(name.as_bytes());
            field(value.expose_secret().as_bytes());
        }
        for (name, value) in self.secret_files.entries() {
            field(name.as_bytes());
            field(value.expose_secret().as_bytes());
        }
        field(self.cwd.as_os_str().as_encoded_bytes());
        let scratch = self.scratch.as_deref().unwrap_or(Path::new(""));
        field(scratch.as_os_str().as_encoded_bytes());
        field(&(self.roots.len() as u64).to_le_bytes());
        for root in &self.roots {
            field(root.as_bytes());
        }
        let ProcessLimits {
            open_files,
            cpu_seconds,
            pids,
            memory,
            cpu_millis,
            cpu_weight,
            disk,
        } = self.limits;
        for limit in [
            open_files,
            cpu_seconds,
            pids,
            memory,
            cpu_millis,
            cpu_weight,
            disk,
        ] {
            field(&limit.unwrap_or(u64::MAX).to_le_bytes());
        }
        field(&[u8::from(self.may_gain_privileges)]);
        if let Some(sandbox) = &self.sandbox {
            field(&sandbox.digested());
        }
        for name in &self.writable {
            field(name.as_bytes());
        }
        hash.finalize().into()
    }
}

impl fmt::Debug for LaunchSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchSpec")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Replaces known secret values by `[redacted]` in text that a process wrote.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret that contains another is masked whole.
    secrets: Vec<SecretString>,
}

impl Redactor {
    /// Shortest secret that is masked, in bytes: masking shorter ones would garble ordinary text
    /// and tell more by where it does than it hides.
    pub const MIN_SECRET_LEN: usize = 4;

    /// Masks `secrets`; those under [`Self::MIN_SECRET_LEN`] are left alone.
    /// Text is shown line by line, so of one with several lines each is masked by itself too; and as launchers write it
    /// that repeat a command line as one of the shell, and as programs write it that quote it (JSON, also within JSON, and
    /// Python's `repr`).
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let with_lines = |secret: SecretString| {
            let text = secret.expose_secret();
            let lines = text.lines().map(str::trim).filter(|line| *line != text);
            let mut all: Vec<SecretString> = lines.map(Into::into).collect();
            all.push(secret);
            let quoted: Vec<_> = all.iter().filter_map(in_quotes).collect();
            let escaped: Vec<_> = all.iter().flat_map(escaped).collect();
            all.extend(quoted);
            all.extend(escaped);
            all
        };
        let mut secrets: Vec<_> = secrets
            .into_iter()
            .flat_map(with_lines)
            .filter(|s| s.expose_secret().len() >= Self::MIN_SECRET_LEN)
            .collect();
        secrets.sort_by_key(|s| std::cmp::Reverse(s.expose_secret().len()));
        Self { secrets }
    }

    /// `text` with every secret masked.
    pub fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.expose_secret(), "[redacted]")
        })
    }
}

/// What of a secret stands in any argument that is quoted for the shell, if that is not the secret itself: each quote in it
/// is written `'\''`, and npm leaves out pairs of quotes with nothing in between.
fn in_quotes(secret: &SecretString) -> Option<SecretString> {
    let secret = secret.expose_secret();
    if !secret.contains('\'') {
        return None;
    }
    let quoted = secret.replace('\'', r"'\''").replace(r"\'''", r"\'");
    Some(quoted.trim_matches('\'').into())
}

/// How a secret is spelt in texts that quote it, where that differs from the secret itself: as a JSON string (RFC 8259,
/// section 7) with and without letters beyond ASCII, as one within another, and as Python's `repr` with either quote.
fn escaped(secret: &SecretString) -> Vec<SecretString> {
    let plain = secret.expose_secret();
    let json = escape(plain, |letter| match letter {
        '"' | '\\' => Some(format!("\\{letter}")),
        _ => None,
    });
    let ascii: String = json.chars().map(in_ascii).collect();
    let within = escape(&json, |letter| match letter {
        '"' | '\\' => Some(format!("\\{letter}")),
        _ => None,
    });
    let repr = escape(plain, |letter| (letter == '\\').then(|| r"\\".to_owned()));
    let repr_quoted = repr.replace('\'', r"\'");
    let mut all = vec![json, ascii, within, repr, repr_quoted];
    all.retain(|spelt| spelt != plain);
    all.sort();
    all.dedup();
    all.into_iter().map(Into::into).collect()
}

/// Writes control characters as JSON and Python do, and others as `other` says.
fn escape(text: &str, other: impl Fn(char) -> Option<String>) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => escaped.push_str(r"\n"),
            '\r' => escaped.push_str(r"\r"),
            '\t' => escaped.push_str(r"\t"),
            letter => match other(letter) {
                Some(spelt) => escaped.push_str(&spelt),
                None => escaped.push(letter),
            },
        }
    }
    escaped
}

/// A letter as JSON in ASCII has it.
fn in_ascii(letter: char) -> String {
    if letter.is_ascii() {
        return letter.to_string();
    }
    let mut units = [0; 2];
    let units = letter.encode_utf16(&mut units).iter();
    units.map(|unit| format!("\\u{unit:04x}")).collect()
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_as_programs_quote_it() {
        let secret = "{\"key\": \"C:\\path\",\n\"owner\": \"Zoé\"}";
        let redactor = Redactor::new([SecretString::from(secret)]);
        let json = serde_json::Value::from(secret).to_string();
        let within = serde_json::Value::from(json.as_str()).to_string();
        for said in [
            json.clone(),
            within,
            json.replace('é', "\\u00e9"),
            // repr() of Python.
            r#"'{"key": "C:\\path",\n"owner": "Zoé"}'"#.to_owned(),
        ] {
            let shown = redactor.redact(&format!("it is {said}."));
            assert!(
                !shown.contains("path") && !shown.contains("owner"),
                "{said}: {shown}"
            );
        }
        let quoted = Redactor::new([SecretString::from(r"it's\one")]);
        assert_eq!(quoted.redact(r"'it\'s\\one'"), "'[redacted]'");
        assert_eq!(quoted.redact(r#""it's\\one""#), "\"[redacted]\"");
    }

    pub(in crate::launch) fn spec(args: &[&str]) -> LaunchSpec {
        LaunchSpec {
            tenant: None,
            program: "server".into(),
            args: args.iter().map(|&a| a.into()).collect(),
            env: BTreeMap::from([("TOKEN".to_owned(), "hunter22".into())]),
            cwd: "/".into(),
            scratch: None,
            roots: vec![],
            limits: ProcessLimits::default(),
            may_gain_privileges: false,
            sandbox: None,
            folders: vec![],
            packages: Default::default(),
            writable: vec![],
            read_only: vec![],
            secret_files: SecretFiles::default(),
            sourced: BTreeMap::new(),
            redactor: Redactor::new(["hunter22".into(), "22".into()]),
            token: None,
        }
    }

    #[test]
    fn fingerprints_tell_argument_boundaries_apart() {
        assert_eq!(
            spec(&["ab", "c"]).fingerprint(),
            spec(&["ab", "c"]).fingerprint()
        );
        assert_ne!(
            spec(&["ab", "c"]).fingerprint(),
            spec(&["a", "bc"]).fingerprint()
        );
        assert_ne!(spec(&["TOKEN", "x"]).fingerprint(), spec(&[]).fingerprint());
    }

    #[test]
    fn arguments_are_shown_without_their_secrets() {
        let spec = spec(&["--key=hunter22", "--port=22"]);
        let shown: Vec<_> = spec.redacted_args().collect();
        assert_eq!(shown, ["--key=[redacted]", "--port=22"]);
    }

    #[test]
    fn neither_debug_nor_redacted_text_shows_a_secret() {
        let spec = spec(&["--key=hunter22"]);
        assert!(!format!("{spec:?}").contains("hunter22"));
        assert_eq!(
            spec.redactor.redact("bad key hunter22!"),
            "bad key [redacted]!"
        );
        let key = Redactor::new(["-----BEGIN KEY-----\n  c2VjcmV0\n}\n".into()]);
        assert_eq!(key.redact("read c2VjcmV0}"), "read [redacted]}");
        let quoted = Redactor::new(["pass'word".into(), "end''".into()]);
        assert_eq!(
            quoted.redact(r"npm notice run 'x' '--key=pass'\''word' 'end'\'\'"),
            "npm notice run 'x' '--key=[redacted]' '[redacted]'",
            "as npm 12 repeats a command line"
        );
        assert_eq!(
            spec.redactor.redact("in 2022"),
            "in 2022",
            "short secrets are not masked"
        );
    }
}
