//! Starts a worker: folders, program, pipes, then the guardian.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::ExposeSecret;
use tracing::Instrument;

use super::cgroup::Group;
use super::disk::disk_usage;
use super::egress::Egress;
use super::guardian::{
    Files, ForkedFrom, IsolationUnavailable, Launch, LaunchError, Launched, Root, TakesQueue,
    can_be_recorded, can_be_strict, can_have_list_of_hosts, can_have_no_network,
    can_hide_from_users, can_make_read_only,
};
use super::launch_folders::make_folders;
use super::life;
use super::mount_plan::MountPlan;
use super::pipes::Pipes;
use super::recorder::{Recorder, sample};
use super::spawn_error::{SpawnError, explain};
use super::state::{LaunchResources, Shared};
use super::stderr::StderrLog;
use super::strict;
use super::waiting::{self, Waiting};
use super::{Guardian, Inbox, Options, Worker, resolving};
use crate::egress::Network;
use crate::fair::Flow;
use crate::ids::WorkerId;
use crate::launch::{Inaccessible, LaunchSpec, ProcessLimits, RunsAs, unreadable_itself};

/// Where a command is looked up when the environment of the worker has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Starts the process `spec` describes and the tasks that serve it. Creates the folders of `spec`
/// first. `id` must not be in use by another worker of this guardian. The worker's output is worked on in the turns of `flow`.
///
/// Must be called within a tokio runtime. When the call is cancelled, what was started is killed.
///
/// # Errors
/// [`SpawnError`]; nothing of the worker is left then, and `inbox` is not called.
pub async fn spawn(
    guardian: &Guardian,
    id: WorkerId,
    spec: &LaunchSpec,
    options: &Options,
    inbox: Arc<dyn Inbox>,
    flow: Flow,
) -> Result<Worker, SpawnError> {
    let source = Source::Guardian(guardian, ForkedFrom::Init);
    spawn_from(NewProcess { id, source }, spec, options, inbox, flow).await
}

/// Starts a template: a process that imports what others are to be forked with, by [`spawn_primed`]. A template is a [`Worker`] that says on its stdout what
/// it has imported, and ends with its stdin. See `template.py`.
///
/// # Errors
/// As [`spawn`].
pub async fn spawn_template(
    guardian: &Guardian,
    id: WorkerId,
    spec: &LaunchSpec,
    options: &Options,
    inbox: Arc<dyn Inbox>,
    flow: Flow,
) -> Result<Worker, SpawnError> {
    let source = Source::Guardian(guardian, ForkedFrom::Guardian);
    spawn_from(NewProcess { id, source }, spec, options, inbox, flow).await
}

/// A worker that a template is to fork.
#[derive(Clone, Copy, Debug)]
pub struct PrimedWorker {
    /// The worker's number, as in [`spawn`].
    pub id: WorkerId,
    /// The number that the template was started with.
    pub template: WorkerId,
}

/// As [`spawn`], of a process that a template has forked: the program's libraries are there already.
///
/// # Errors
/// As [`spawn`]; and when the template is gone, does not answer, or the host cannot isolate what it forks as it isolates other workers.
pub async fn spawn_primed(
    guardian: &Guardian,
    primed: PrimedWorker,
    spec: &LaunchSpec,
    options: &Options,
    inbox: Arc<dyn Inbox>,
    flow: Flow,
) -> Result<Worker, SpawnError> {
    let process = NewProcess {
        id: primed.id,
        source: Source::Guardian(guardian, ForkedFrom::Template(primed.template.0)),
    };
    spawn_from(process, spec, options, inbox, flow).await
}

/// As [`spawn`], of a process that has waited for it: the program's dependencies are there already.
///
/// # Errors
/// As [`spawn`]; and when that process is gone, or does not become the worker. Nothing is left of it then.
pub async fn spawn_from_waiting(
    waiting: Waiting,
    id: WorkerId,
    spec: &LaunchSpec,
    options: &Options,
    inbox: Arc<dyn Inbox>,
    flow: Flow,
) -> Result<Worker, SpawnError> {
    let end = waiting.end();
    let source = Source::Waiting(Box::new(waiting));
    let spawned = spawn_from(NewProcess { id, source }, spec, options, inbox, flow).await;
    if spawned.is_err() {
        end.kill().await;
    }
    spawned
}

/// A worker that is to be there, and what its first process comes from.
struct NewProcess<'a> {
    /// The worker's number among those of the guardian.
    id: WorkerId,
    source: Source<'a>,
}

/// What the first process of a worker comes from.
enum Source<'a> {
    /// The guardian starts the process, or has it forked.
    Guardian(&'a Guardian, ForkedFrom),
    /// The process is there already, and has waited.
    Waiting(Box<Waiting>),
}

async fn spawn_from(
    process: NewProcess<'_>,
    spec: &LaunchSpec,
    options: &Options,
    inbox: Arc<dyn Inbox>,
    flow: Flow,
) -> Result<Worker, SpawnError> {
    let id = process.id;
    let closed = match &process.source {
        Source::Guardian(guardian, _) => guardian.closed_to_workers(),
        // Such a worker has the host's network.
        Source::Waiting(_) => Arc::default(),
    };
    let Prepared {
        program,
        user,
        files,
        recorder,
    } = prepare(spec).await?;
    let mut launch = Launch::of(spec, program.into_os_string(), user, files);
    let recorder = recorder.map(|recorder| Recorder {
        told: (!recorder.record.is_full()).then(|| Arc::clone(&inbox)),
        ..recorder
    });
    launch.recording = recorder.as_ref().map(Recorder::recording);
    let (group, began_full) = limited(id, spec).await?;
    if began_full {
        launch.file_size = Some(0);
    }
    let procs_files = group.iter().flat_map(Group::procs_files);
    launch.groups = procs_files.map(PathBuf::into_os_string).collect();
    let (mut launched, pipes) = match process.source {
        Source::Waiting(waiting) => waiting::adopt(*waiting, id, &launch).await,
        Source::Guardian(guardian, origin) => {
            let start =
                async || launch_with_pipes(guardian, id, origin, &launch, recorder.as_ref()).await;
            match start().await? {
                // With pipes of its own: what was lost may have written to the first ones. Templates are lost too.
                Err(LaunchError::Lost) if origin == ForkedFrom::Init => start().await?,
                launched => launched,
            }
        }
    }
    .map_err(|error| explain(error, spec))?;
    let egress = match (launched.sockets.take(), allowed(spec)) {
        (Some(sockets), Some(list)) => {
            let (told, closed) = (Arc::clone(&inbox), closed);
            let egress = Egress::new(list, closed, told, flow.clone());
            Some(tokio::spawn(egress.serve(sockets).in_current_span()))
        }
        _ => None,
    };
    let provisions = LaunchResources {
        stderr: StderrLog::new(id, options.stderr_lines, spec.redactor.clone()),
        group,
        began_full,
    };
    let shared = Arc::new(Shared::new(id, launched, options, provisions));
    let life = life::run(shared.clone(), pipes, inbox, options.clone(), flow);
    let life = async move {
        life.await;
        if let Some(egress) = egress {
            egress.abort();
        }
    };
    tokio::spawn(life.in_current_span());
    let worker = Worker(shared);
    if let Some(recorder) = recorder.filter(|it| it.record.is_full()) {
        let sampling = sample(worker.clone(), spec.folders.clone(), recorder.record);
        tokio::spawn(sampling.in_current_span());
    }
    Ok(worker)
}

/// The control group of a worker, where it has one, and whether its folders hold more than its limit already.
///
/// # Errors
/// A limit needs the group, and the group cannot be made.
async fn limited(id: WorkerId, spec: &LaunchSpec) -> Result<(Option<Group>, bool), SpawnError> {
    let (limits, folders) = (spec.limits, spec.folders.clone());
    let tenant = spec.tenant.clone();
    let made = tokio::task::spawn_blocking(move || {
        let is_over = |limit| disk_usage(&folders, &[]) > limit;
        let group = Group::make(id, tenant.as_ref(), &limits);
        (group, limits.disk.is_some_and(is_over))
    });
    let made = made.await;
    let (group, is_full) =
        made.map_err(|error| SpawnError::io("make a control group")(error.into()))?;
    let group = match group {
        // A share of the processors keeps nobody from anything: without, it is as on a host without control groups.
        Err(error) if !needs_group(&limits) => {
            tracing::warn!(worker = %id, %error, "a worker shares the processors by its session, as there is no control group for it");
            None
        }
        group => group.map_err(SpawnError::io("make a control group for its `limits`"))?,
    };
    Ok((group, is_full))
}

/// Whether there are limits that only a control group keeps.
fn needs_group(limits: &ProcessLimits) -> bool {
    let of_group = [
        limits.pids,
        limits.memory,
        limits.cpu_millis,
        limits.cpu_weight,
    ];
    of_group.iter().any(Option::is_some)
}

/// Asks the guardian for a process, with new pipes.
///
/// # Errors
/// When there are no pipes; within it, what became of the launch.
async fn launch_with_pipes(
    guardian: &Guardian,
    id: WorkerId,
    origin: ForkedFrom,
    launch: &Launch,
    recorder: Option<&Recorder>,
) -> Result<Result<(Launched, Pipes), LaunchError>, SpawnError> {
    let (pipes, ends) = Pipes::open()?;
    let recorder = recorder.cloned();
    let recorder =
        recorder.map(|it| -> TakesQueue { Arc::new(move |queue| it.clone().serve(queue)) });
    let launched = guardian.launch(id, origin, launch, ends, recorder).await;
    Ok(launched.map(|launched| (launched, pipes)))
}

/// The hosts that a launch reaches, where they are listed.
fn allowed(spec: &LaunchSpec) -> Option<Arc<crate::egress::AllowList>> {
    spec.sandbox.as_ref()?.network.allowed().cloned()
}

/// The launch as it is prepared before the guardian is asked.
pub(super) struct Prepared {
    /// Path of the program.
    pub(super) program: PathBuf,
    /// The user that it runs as, if that is another than stdiopool's.
    pub(super) user: Option<u32>,
    pub(super) files: Files,
    /// How the worker is recorded, if it is.
    recorder: Option<Recorder>,
}

/// Checks and does what can be before the guardian is asked.
pub(super) async fn prepare(spec: &LaunchSpec) -> Result<Prepared, SpawnError> {
    let spec = spec.clone();
    let prepared = tokio::task::spawn_blocking(move || prepared(&spec)).await;
    prepared.map_err(|error| SpawnError::io("prepare the start")(error.into()))?
}

fn prepared(spec: &LaunchSpec) -> Result<Prepared, SpawnError> {
    let user = match spec.sandbox.as_ref().map(|sandbox| &sandbox.runs_as) {
        Some(RunsAs::User(user)) => Some(*user),
        Some(RunsAs::Nobody(why)) => return Err(SpawnError::NoUser(why.to_string())),
        // Lent for each worker, so that it is known here.
        Some(RunsAs::OneOf(_)) => return Err(SpawnError::NoUser("none was lent".to_owned())),
        Some(RunsAs::Supervisor) | None => None,
    };
    check_isolation(spec, user)?;
    make_folders(spec, user)?;
    spec.secret_files
        .write(user)
        .map_err(SpawnError::io("write the files of secrets"))?;
    if !spec.cwd.is_dir() {
        let cwd = spec.cwd.clone();
        let is_there = cwd.exists();
        return Err(SpawnError::NoSuchFolder { cwd, is_there });
    }
    let path = spec.env.get("PATH").map(|path| path.expose_secret());
    // The program is executed after the change into `cwd`: a relative path would be taken twice.
    let cwd = std::path::absolute(&spec.cwd).map_err(SpawnError::io("resolve `cwd`"))?;
    let program = find_program(&spec.program, path.unwrap_or(DEFAULT_PATH), &cwd)?;
    if let Some(sandbox) = &spec.sandbox
        && let Some(strict) = &sandbox.strict
    {
        let mut root = strict::root_of(spec, sandbox, strict, &program);
        check_seen(spec, &root, user, &program, &cwd)?;
        root.files = resolving::files(&sandbox.network);
        let files = Files {
            root: Some(root),
            ..Files::default()
        };
        return Ok(Prepared {
            program,
            user,
            files,
            recorder: None,
        });
    }
    let mount_plan = match can_mount_for(user) {
        true => MountPlan::of(spec, user),
        false => MountPlan::of_permissions(),
    };
    if let Some(user) = user {
        check_paths(spec, &mount_plan, user, &program, &cwd)?;
    }
    let recorder = spec.sandbox.as_ref().and_then(|sandbox| {
        let observed = sandbox.observed.as_ref()?;
        Some(Recorder {
            record: Arc::clone(&observed.record),
            root: strict::root_of(spec, sandbox, &observed.strict, &program),
            program: program.clone(),
            user: user.unwrap_or_else(|| nix::unistd::geteuid().as_raw()),
            told: None,
        })
    });
    Ok(Prepared {
        recorder,
        program,
        user,
        files: Files {
            mounts: mount_plan.mounts(),
            written: spec
                .sandbox
                .iter()
                .flat_map(|it| resolving::files(&it.network))
                .collect(),
            root: None,
        },
    })
}

/// Whether the host can give the isolation that a launch is to have; nothing is started without.
fn check_isolation(spec: &LaunchSpec, user: Option<u32>) -> Result<(), SpawnError> {
    let Some(sandbox) = &spec.sandbox else {
        return Ok(());
    };
    if sandbox.strict.is_some() {
        let key = "`sandbox = \"strict\"`";
        can_be_strict().map_err(|why| SpawnError::IsolationUnavailable { key, why })?;
        if user.is_none() && nix::unistd::geteuid().is_root() {
            let why = IsolationUnavailable::users();
            return Err(SpawnError::IsolationUnavailable { key, why });
        }
    }
    if sandbox.observed.is_some() {
        let key = "`sandbox = \"observe\"`, as a recording by `stdiopool profile`,";
        can_be_recorded(user.is_some())
            .map_err(|why| SpawnError::IsolationUnavailable { key, why })?;
    }
    let own_network = match &sandbox.network {
        Network::On => None,
        Network::Off => Some(("`network = \"off\"`", can_have_no_network())),
        Network::Allow(_) => Some(("`network` with a list", can_have_list_of_hosts())),
    };
    if let Some((key, found)) = own_network {
        found.map_err(|why| SpawnError::IsolationUnavailable { key, why })?;
        if user.is_none() && nix::unistd::geteuid().is_root() {
            // Root goes back to the host's network.
            let why = IsolationUnavailable::users();
            return Err(SpawnError::IsolationUnavailable { key, why });
        }
    }
    Ok(())
}

/// Whether a worker with that root sees what it starts from, and may read it as the user that it runs as.
fn check_seen(
    spec: &LaunchSpec,
    root: &Root,
    user: Option<u32>,
    program: &Path,
    cwd: &Path,
) -> Result<(), SpawnError> {
    if !strict::shows(root, cwd) {
        return Err(SpawnError::Unseen {
            what: "the working directory",
            path: cwd.to_owned(),
        });
    }
    let Some(user) = user else { return Ok(()) };
    let named = spec.sandbox.iter().flat_map(|sandbox| &sandbox.named);
    let named = named.map(|named| (Some(&named.key), named.path.as_path()));
    for (key, path) in named.chain([(None, program)]) {
        if let Some(why) = unreadable_itself(path, user) {
            let command = || format!("command `{}`", spec.program);
            return Err(SpawnError::Inaccessible {
                what: key.map_or_else(command, |key| format!("`{key}`")),
                key: key.cloned(),
                path: path.to_owned(),
                user,
                why,
            });
        }
    }
    Ok(())
}

/// Whether the host lets a worker that runs as that user see folders otherwise.
fn can_mount_for(user: Option<u32>) -> bool {
    match user {
        Some(_) => can_hide_from_users(),
        None => can_make_read_only(),
    }
}

/// What pool.toml names of a launch, and its program, that a user would not come to: the key, if it is one that the
/// launch names, and why. Looks at files.
pub fn out_of_reach(spec: &LaunchSpec, user: u32) -> Option<(Option<String>, SpawnError)> {
    let path = spec.env.get("PATH").map(|path| path.expose_secret());
    let base = Path::new("/");
    // A missing program is told elsewhere.
    let program = find_program(&spec.program, path.unwrap_or(DEFAULT_PATH), base).ok()?;
    let is_strict = spec.sandbox.as_ref().and_then(|it| it.strict.as_ref());
    let mount_plan = match can_hide_from_users() {
        true => MountPlan::of(spec, Some(user)),
        false => MountPlan::of_permissions(),
    };
    let checked = match (is_strict, &spec.sandbox) {
        (Some(strict), Some(sandbox)) => {
            let root = strict::root_of(spec, sandbox, strict, &program);
            // The working directory is not known yet where it is the server's own; that one is always seen.
            let cwd = Some(spec.cwd.as_path()).filter(|cwd| cwd.exists());
            check_seen(spec, &root, Some(user), &program, cwd.unwrap_or(&program))
        }
        _ => check_paths(spec, &mount_plan, user, &program, base),
    };
    let error = checked.err()?;
    let key = match &error {
        SpawnError::Inaccessible { key, .. } => key.clone(),
        _ => None,
    };
    Some((key, error))
}

/// Whether the user of a worker comes to what it is started from, and to what pool.toml names.
fn check_paths(
    spec: &LaunchSpec,
    mount_plan: &MountPlan,
    user: u32,
    program: &Path,
    cwd: &Path,
) -> Result<(), SpawnError> {
    let closed = |key: Option<&String>, what: String, path: &Path, why: Inaccessible| {
        SpawnError::Inaccessible {
            key: key.cloned(),
            what,
            path: path.to_owned(),
            user,
            why,
        }
    };
    for named in spec.sandbox.iter().flat_map(|sandbox| &sandbox.named) {
        if let Some(why) = mount_plan.unreadable(&named.path, user) {
            let what = format!("`{}`", named.key);
            return Err(closed(Some(&named.key), what, &named.path, why));
        }
    }
    for folder in &spec.folders {
        if let Some(why) = mount_plan.closed(folder, user) {
            let what = "its own folder (choose another `state.dir`)".to_owned();
            return Err(closed(None, what, folder, why));
        }
    }
    if let Some(why) = mount_plan.closed(program, user) {
        let what = format!("command `{}`", spec.program);
        return Err(closed(None, what, program, why));
    }
    if let Some(why) = mount_plan.closed(cwd, user) {
        return Err(closed(None, "the working directory".to_owned(), cwd, why));
    }
    Ok(())
}

/// Finds `program` as execvp(3) would, seen from `cwd`.
///
/// # Errors
/// [`SpawnError::CommandNotFound`] or [`SpawnError::NotExecutable`].
pub fn find_program(program: &str, path: &str, cwd: &Path) -> Result<PathBuf, SpawnError> {
    let mut found_unusable = false;
    let candidates = if program.contains('/') {
        vec![cwd.join(program)]
    } else {
        std::env::split_paths(path)
            .map(|folder| cwd.join(folder).join(program))
            .collect()
    };
    for candidate in candidates {
        match candidate.metadata() {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => {
                return Ok(candidate);
            }
            Ok(_) => found_unusable = true,
            Err(error) => found_unusable |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    let program = program.to_owned();
    Err(if found_unusable {
        SpawnError::NotExecutable { program }
    } else {
        let path = if program.contains('/') {
            cwd.join(&program).display().to_string()
        } else {
            path.to_owned()
        };
        SpawnError::CommandNotFound { program, path }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error is a text: what a user reads of it is compared.
    fn find(program: &str, path: &str) -> Result<PathBuf, String> {
        find_program(program, path, Path::new("/")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_is_found_as_a_shell_would() {
        assert_eq!(find("sh", "/nowhere:/bin"), Ok("/bin/sh".into()));
        assert_eq!(find("bin/sh", "/nowhere"), Ok("/bin/sh".into()));
    }

    #[test]
    fn a_start_goes_without_a_group_only_where_no_limit_needs_it() {
        assert!(!needs_group(&ProcessLimits::default()));
        let kept_otherwise = ProcessLimits {
            open_files: Some(64),
            cpu_seconds: Some(1),
            disk: Some(1),
            ..ProcessLimits::default()
        };
        assert!(!needs_group(&kept_otherwise));
        for limits in [
            ProcessLimits {
                pids: Some(1),
                ..ProcessLimits::default()
            },
            ProcessLimits {
                memory: Some(1),
                ..ProcessLimits::default()
            },
            ProcessLimits {
                cpu_millis: Some(1),
                ..ProcessLimits::default()
            },
            ProcessLimits {
                cpu_weight: Some(1),
                ..ProcessLimits::default()
            },
        ] {
            assert!(needs_group(&limits), "{limits:?}");
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let error = find("nope", "/bin").expect_err("there is none");
        assert_eq!(
            error,
            "command `nope` not found in `/bin`; install it, or give its full path in `command`"
        );
        let error = find("/etc/passwd", "/bin").expect_err("not a program");
        assert!(error.contains("chmod +x"), "{error}");
    }
}
