//! As which Unix user the servers of each tenant run, where stdiopool is root: one for each tenant, for good.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, params};

use super::database::{Database, DatabaseError, FILE, told};
use super::opened::OpenedState;
use super::state_dir::StateDir;
use crate::ids::TenantId;
use crate::launch::UserPool;
use crate::process::ProcessTable;

/// The last so-manieth part of the range is for processes that are no tenant's when they start.
const PART_POOLED: u32 = 8;
/// Most users of that part.
const MOST_POOLED: u32 = 4096;

/// Of that part, the last so-manieth is for servers that are profiled.
const PART_PROFILED: u32 = 4;
/// Most users of those.
const MOST_PROFILED: u32 = 32;

/// Of what is left of it, the last so-manieth is for installs.
const PART_INSTALLS: u32 = 4;
/// Most users of those: each install that runs has one.
const MOST_INSTALLS: u32 = 16;

/// The users of a range that are no tenant's, in this order.
struct Parts {
    /// For processes that are no tenant's when they start.
    pooled: u32,
    /// For installs.
    installs: u32,
    /// For servers that are profiled, an even number.
    profiled: u32,
}

impl Parts {
    fn of(range: &RangeInclusive<u32>) -> Self {
        let count = range.end() - range.start() + 1;
        let all = (count / PART_POOLED).clamp(1, MOST_POOLED);
        let profiled = (all / PART_PROFILED).min(MOST_PROFILED) & !1;
        let rest = all - profiled;
        let fewest = u32::from(rest > 1);
        let installs = (rest / PART_INSTALLS).clamp(fewest, MOST_INSTALLS);
        Self {
            pooled: rest - installs,
            installs,
            profiled,
        }
    }
}

/// The users of a range that are for installs; none where it is a narrow one.
pub fn users_of_installs(range: &RangeInclusive<u32>) -> Option<RangeInclusive<u32>> {
    let Parts {
        installs, profiled, ..
    } = Parts::of(range);
    let last = range.end() - profiled;
    (installs > 0).then(|| last + 1 - installs..=last)
}

/// The users of a range that are for servers that are profiled; none where it is a narrow one.
pub(super) fn users_of_profiles(range: &RangeInclusive<u32>) -> std::ops::Range<u32> {
    let Parts { profiled, .. } = Parts::of(range);
    let end = range.end().saturating_add(1);
    end - profiled..end
}

/// Why a tenant has no user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// All users are taken, each by a tenant of whom something is left.
    #[error(
        "all {count} users of `sandbox.uids` are taken by tenants of whom there are files or processes: widen the range"
    )]
    Exhausted {
        /// How many there are.
        count: u32,
    },
    /// The user that was allotted could not be kept.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The users of tenants, kept in the state folder. One is another tenant's only when nothing of the one before is left.
#[derive(Debug)]
pub struct Users {
    database: Database,
    state: PathBuf,
    of_tenants: RangeInclusive<u32>,
    taken: Mutex<BTreeMap<TenantId, u32>>,
    /// Users that this run of stdiopool has handed out: something may be about to start as one that has no folder yet.
    told: Mutex<BTreeSet<u32>>,
    /// Tenants whose user is not in the database yet, as it took nothing: the disk is full.
    unkept: Mutex<BTreeSet<TenantId>>,
    /// Users are allotted one at a time.
    assigning: tokio::sync::Mutex<()>,
    user_pool: Arc<UserPool>,
}

impl Users {
    fn new(
        database: Database,
        state: &Path,
        range: &RangeInclusive<u32>,
        rows: &[(TenantId, u32)],
    ) -> Self {
        let Parts {
            pooled,
            installs,
            profiled,
        } = Parts::of(range);
        let of_tenants = *range.start()..=range.end() - pooled - installs - profiled;
        // Users of another range do not count: their tenants get new ones, and their folders with them.
        let kept = rows.iter().filter(|(_, user)| of_tenants.contains(user));
        let mut taken: BTreeMap<TenantId, u32> = kept.cloned().collect();
        let unkept = unkept(&state.join("data"), &of_tenants, &taken);
        let of_unkept = unkept.keys().cloned().collect();
        taken.extend(unkept);
        Self {
            taken: Mutex::new(taken),
            told: Mutex::default(),
            unkept: Mutex::new(of_unkept),
            user_pool: Arc::new(UserPool::new(of_tenants.end() + 1, pooled)),
            database,
            state: state.to_owned(),
            of_tenants,
            assigning: tokio::sync::Mutex::default(),
        }
    }

    /// Users for processes that are no tenant's when they start.
    pub fn user_pool(&self) -> &Arc<UserPool> {
        &self.user_pool
    }

    /// The user of a tenant, which is no other's as long as stdiopool runs, and is kept when this returns. Where the
    /// disk is full, the folders that the tenant's servers are given keep it meanwhile.
    ///
    /// # Errors
    /// [`UserError`]: nothing may be started for the tenant.
    ///
    /// # Cancel-Safety
    /// Cancel-safe: one that was allotted and not kept is allotted anew.
    pub async fn of(&self, tenant: &TenantId) -> Result<u32, UserError> {
        if let Some(user) = self.tell(tenant) {
            self.keep_at_last(tenant, user).await;
            return Ok(user);
        }
        let _guard = self.assigning.lock().await;
        if let Some(user) = self.tell(tenant) {
            return Ok(user);
        }
        let (user, before) = self.free()?;
        match self.keep(tenant, user, before.as_ref()).await {
            Ok(()) => {}
            // Nobody had it before: no row says that it is another's.
            Err(error @ DatabaseError::NotWritten(_)) if before.is_none() => {
                tracing::warn!(%tenant, user, %error, "the user of a tenant's servers is kept by their folders alone");
                self.unkept.lock().insert(tenant.clone());
            }
            Err(error) => return Err(error.into()),
        }
        let mut taken = self.taken.lock();
        if let Some(before) = before {
            taken.remove(&before);
        }
        taken.insert(tenant.clone(), user);
        self.told.lock().insert(user);
        Ok(user)
    }

    /// Tries again what failed when the user was allotted.
    async fn keep_at_last(&self, tenant: &TenantId, user: u32) {
        if !self.unkept.lock().contains(tenant) {
            return;
        }
        match self.keep(tenant, user, None).await {
            Ok(()) => {
                self.unkept.lock().remove(tenant);
            }
            Err(error) => tracing::debug!(%tenant, user, %error, "the user is not kept yet"),
        }
    }

    /// Writes down the user of a tenant, who was another's `before`.
    async fn keep(
        &self,
        tenant: &TenantId,
        user: u32,
        before: Option<&TenantId>,
    ) -> Result<(), DatabaseError> {
        let (name, old) = (tenant.as_str().to_owned(), before.cloned());
        let change = move |db: &rusqlite::Transaction<'_>| {
            if let Some(old) = &old {
                db.prepare_cached("DELETE FROM users WHERE tenant = ?1")?
                    .execute([old.as_str()])?;
            }
            // A user of another range, or that of a folder that was put in place of this one.
            db.prepare_cached("DELETE FROM users WHERE uid = ?1 OR tenant = ?2")?
                .execute(params![user, name])?;
            db.prepare_cached("INSERT INTO users VALUES (?1, ?2)")?
                .execute(params![name, user])
                .map(drop)
        };
        self.database.apply(Box::new(change)).await
    }

    /// The user that a tenant has already; nobody else gets it from now on.
    fn tell(&self, tenant: &TenantId) -> Option<u32> {
        let taken = self.taken.lock();
        let user = *taken.get(tenant)?;
        self.told.lock().insert(user);
        Some(user)
    }

    /// A user that is nobody's, or was that tenant's of whom nothing is left.
    fn free(&self) -> Result<(u32, Option<TenantId>), UserError> {
        let taken = self.taken.lock().clone();
        let last = taken.values().max().copied();
        // In the order of numbers: a low one that is free again is used last.
        let next = last.map_or(*self.of_tenants.start(), |last| last.saturating_add(1));
        if self.of_tenants.contains(&next) {
            return Ok((next, None));
        }
        let numbers: BTreeSet<u32> = taken.values().copied().collect();
        let mut all = self.of_tenants.clone();
        if let Some(user) = all.find(|user| !numbers.contains(user)) {
            return Ok((user, None));
        }
        let running = users_of_processes();
        let is_gone = |tenant: &TenantId, user: u32| {
            let of = |part: &str| self.state.join(part).join(tenant.as_str());
            let is_told = self.told.lock().contains(&user);
            !is_told && !running.contains(&user) && !of("data").exists() && !of("tmp").exists()
        };
        let mut taken = taken.into_iter();
        let gone = taken.find(|(tenant, user)| is_gone(tenant, *user));
        let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        let (tenant, user) = gone.ok_or(UserError::Exhausted { count })?;
        Ok((user, Some(tenant)))
    }
}

/// The users of tenants that only the owner of a folder of theirs tells, as when the disk was full, or the database is an
/// older one that was restored. Of a number that another tenant has nothing is concluded. Blocks.
fn unkept(
    data: &Path,
    of_tenants: &RangeInclusive<u32>,
    taken: &BTreeMap<TenantId, u32>,
) -> BTreeMap<TenantId, u32> {
    let mut numbers: BTreeSet<u32> = taken.values().copied().collect();
    let mut found = BTreeMap::new();
    for folder in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let name = folder.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let tenant = TenantId::new(name.to_owned());
        if taken.contains_key(&tenant) {
            continue;
        }
        let servers = std::fs::read_dir(folder.path());
        let owners = servers.into_iter().flatten().flatten();
        let owners = owners.filter_map(|server| server.metadata().ok());
        let mut owners = owners.map(|meta| meta.uid());
        let user = owners.find(|user| of_tenants.contains(user) && !numbers.contains(user));
        if let Some(user) = user {
            numbers.insert(user);
            found.insert(tenant, user);
        }
    }
    found
}

/// The users of all processes there are; of one that ends just now it may be missing.
pub(super) fn users_of_processes() -> std::collections::HashSet<u32> {
    let pids = ProcessTable::scan().map(|table| table.pids());
    let user = |pid: u32| {
        let meta = std::fs::metadata(format!("/proc/{pid}"));
        meta.ok().map(|meta| meta.uid())
    };
    pids.unwrap_or_default()
        .into_iter()
        .filter_map(user)
        .collect()
}

impl OpenedState {
    /// The users of tenants' servers, out of that range. There is to be one value of a state folder.
    ///
    /// # Errors
    /// When those that tenants have cannot be read.
    pub fn users(
        &self,
        dir: &StateDir,
        range: &RangeInclusive<u32>,
    ) -> Result<Users, DatabaseError> {
        let path = dir.path().join(FILE);
        let rows = Connection::open(&path).and_then(|connection| load(&connection));
        let rows = rows.map_err(|error| told(&path, error))?;
        let database = self.accounts.database.clone();
        Ok(Users::new(database, dir.path(), range, &rows))
    }
}

fn load(connection: &Connection) -> rusqlite::Result<Vec<(TenantId, u32)>> {
    let mut statement = connection.prepare("SELECT tenant, uid FROM users")?;
    let rows = statement.query_map([], |row| {
        let tenant: String = row.get(0)?;
        Ok((TenantId::new(tenant), row.get(1)?))
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: RangeInclusive<u32> = 2_100_000_000..=2_100_000_015;

    #[tokio::test]
    async fn a_tenants_user_is_its_own_and_stays_so() {
        let base = tempfile::tempdir().expect("a folder");
        let dir = StateDir::open(base.path()).expect("opens");
        let tenant = |n: u32| TenantId::new(format!("t{n}"));
        {
            let opened = OpenedState::open(&dir).expect("opens");
            let users = opened.users(&dir, &RANGE).expect("read");
            for n in 0..14 {
                let user = users.of(&tenant(n)).await.expect("one");
                assert_eq!(user, RANGE.start() + n);
                std::fs::create_dir_all(base.path().join("data").join(tenant(n).as_str()))
                    .expect("made");
            }
            assert_eq!(
                users.of(&tenant(3)).await.expect("its own"),
                RANGE.start() + 3
            );
            let why = users.of(&tenant(14)).await.expect_err("all are taken");
            assert!(why.to_string().contains("all 14 users"), "{why}");
        }
        let opened = OpenedState::open(&dir).expect("opens again");
        let users = opened.users(&dir, &RANGE).expect("read");
        assert_eq!(users.of(&tenant(3)).await.expect("kept"), RANGE.start() + 3);
        std::fs::remove_dir(base.path().join("data/t5")).expect("removed");
        let user = users.of(&tenant(14)).await.expect("nothing is left of t5");
        assert_eq!(user, RANGE.start() + 5);
        users
            .of(&tenant(5))
            .await
            .expect_err("it has none any more");
    }

    #[tokio::test]
    async fn a_user_that_the_database_does_not_take_is_kept_by_its_folder() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root gives folders away");
            return;
        }
        let base = tempfile::tempdir().expect("a folder");
        let dir = StateDir::open(base.path()).expect("opens");
        let tenant = |name: &str| TenantId::new(name.to_owned());
        let rows = || {
            let connection = Connection::open(base.path().join(FILE)).expect("opens");
            load(&connection).expect("read")
        };
        let change = |sql: &str| {
            let connection = Connection::open(base.path().join(FILE)).expect("opens");
            connection.execute_batch(sql).expect("changed");
        };
        {
            let opened = OpenedState::open(&dir).expect("opens");
            let users = opened.users(&dir, &RANGE).expect("read");
            change(
                "CREATE TRIGGER no BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'full'); END",
            );
            let user = users.of(&tenant("late")).await.expect("one");
            assert_eq!(user, *RANGE.start());
            assert_eq!(users.of(&tenant("late")).await.expect("still"), user);
            assert_eq!(rows(), []);
            let folder = base.path().join("data/late/server");
            std::fs::create_dir_all(&folder).expect("made");
            std::os::unix::fs::chown(&folder, Some(user), Some(user)).expect("given");
        }
        let opened = OpenedState::open(&dir).expect("opens again");
        let users = opened.users(&dir, &RANGE).expect("read");
        let other = users.of(&tenant("another")).await.expect("one");
        assert_eq!(other, RANGE.start() + 1, "not that of who has the folder");
        change("DROP TRIGGER no");
        let user = users.of(&tenant("late")).await.expect("its own");
        assert_eq!(user, *RANGE.start());
        assert_eq!(rows(), [(tenant("late"), user)]);
        users.of(&tenant("another")).await.expect("its own");
        assert_eq!(rows().len(), 2);
    }
}
