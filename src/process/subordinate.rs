//! Users for the servers of a stdiopool that is not root: a user namespace (user_namespaces(7)) in which stdiopool is root and has,
//! beside its own, the subordinate users that the host gives to its user (subuid(5), newuidmap(1)).

use std::fs;
use std::io::Write;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, User, getegid, geteuid, setgroups, setresgid, setresuid};

use super::capabilities::capabilities;
use super::own_program::ask_own_program;

/// The argument with which this program tries it.
const ARGUMENT: &str = "__subordinate-users";
/// Waits for its stdin, then maps process $1: user $2 and group $3 are root, $6 subordinate users and groups from $5 and $7
/// on are those from $4 on.
const MAP: &str = "read -r go && newuidmap \"$1\" 0 \"$2\" 1 \"$4\" \"$5\" \"$6\" && newgidmap \"$1\" 0 \"$3\" 1 \"$4\" \"$7\" \"$6\"";

/// Why stdiopool has no subordinate users.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NoSubordinateUsers {
    /// The host gives its user none, or fewer than are wanted.
    #[error(
        "{file} gives the user {user} no range of {count} (`usermod --add-subuids`, `--add-subgids`)"
    )]
    NotGiven {
        /// The file that would.
        file: &'static str,
        /// Name, or number, of the user.
        user: String,
        /// How many are wanted.
        count: u32,
    },
    /// stdiopool has been given rights that hold outside of the namespace alone.
    #[error("stdiopool has capabilities, which it would lose in a user namespace")]
    HasCapabilities,
    /// The host refuses it.
    #[error("{0}")]
    Refused(String),
}

/// The users and groups that are mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mapping {
    /// The first number in the namespace.
    inside: u32,
    count: u32,
    /// The first user outside.
    user: u32,
    /// The first group outside.
    group: u32,
}

/// Makes this process root of a user namespace that has those users, with groups of equal numbers, and each of them a subordinate user
/// outside. A process that is root already stays as it is, and so does one for which it cannot be done.
///
/// The process has one thread.
///
/// # Errors
/// [`NoSubordinateUsers`]: why it is as it was.
pub(crate) fn take_subordinate_users(
    wanted: &RangeInclusive<u32>,
) -> Result<(), NoSubordinateUsers> {
    if geteuid().is_root() {
        return Ok(());
    }
    let mapping = find(wanted)?;
    // In a process of its own first: who is in a namespace without users does not come back.
    try_out(&mapping)?;
    enter(&mapping)
}

/// Whether [`take_subordinate_users`] could.
///
/// # Errors
/// [`NoSubordinateUsers`]: why not.
pub(crate) fn can_take_subordinate_users(
    wanted: &RangeInclusive<u32>,
) -> Result<(), NoSubordinateUsers> {
    try_out(&find(wanted)?)
}

/// Tries it, says what came of it, and ends, if the program was started for that; else does nothing.
///
/// Must be called before any thread exists.
pub(crate) fn try_subordinate_users_if_asked() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() != Some(ARGUMENT) {
        return;
    }
    let mut number = || args.next()?.parse().ok();
    let mut mapping = || {
        Some(Mapping {
            inside: number()?,
            count: number()?,
            user: number()?,
            group: number()?,
        })
    };
    match mapping() {
        Some(mapping) => match enter(&mapping).and_then(|()| become_one(mapping.inside)) {
            Ok(()) => say("yes"),
            Err(why) => say(&why.to_string()),
        },
        None => say("it is started by stdiopool itself, not by hand"),
    }
    std::process::exit(0);
}

#[allow(clippy::print_stdout, reason = "it is asked by this pipe")]
fn say(text: &str) {
    print!("{text}");
}

/// What the host gives.
fn find(wanted: &RangeInclusive<u32>) -> Result<Mapping, NoSubordinateUsers> {
    if capabilities() != 0 {
        return Err(NoSubordinateUsers::HasCapabilities);
    }
    let number = geteuid().to_string();
    let name = User::from_uid(geteuid()).ok().flatten();
    let name = name.map_or_else(|| number.clone(), |user| user.name);
    let count = wanted.end() - wanted.start() + 1;
    let given = |file: &'static str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        first_of(&text, [&name, &number], count).ok_or_else(|| NoSubordinateUsers::NotGiven {
            file,
            user: name.clone(),
            count,
        })
    };
    Ok(Mapping {
        inside: *wanted.start(),
        count,
        user: given("/etc/subuid")?,
        group: given("/etc/subgid")?,
    })
}

/// The first number of a range of at least that many which a file of subuid(5) gives to one of those names.
fn first_of(text: &str, names: [&str; 2], count: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let (first, has): (u32, u32) = (
            fields.next()?.parse().ok()?,
            fields.next()?.trim().parse().ok()?,
        );
        (names.contains(&name) && has >= count && first > 0).then_some(first)
    })
}

fn refused(what: &str, error: impl std::fmt::Display) -> NoSubordinateUsers {
    NoSubordinateUsers::Refused(format!("{what}: {error}"))
}

/// Whether a process of its own can do it.
fn try_out(mapping: &Mapping) -> Result<(), NoSubordinateUsers> {
    let numbers = [mapping.inside, mapping.count, mapping.user, mapping.group];
    let numbers = numbers.map(|number| number.to_string());
    let args = [ARGUMENT.to_owned()].into_iter().chain(numbers);
    match ask_own_program(args) {
        Ok(answer) if answer == "yes" => Ok(()),
        Ok(why) => Err(NoSubordinateUsers::Refused(why)),
        Err(error) => Err(refused("it cannot be tried", error)),
    }
}

/// Makes the namespace and maps its users.
fn enter(mapping: &Mapping) -> Result<(), NoSubordinateUsers> {
    let own = [std::process::id(), geteuid().as_raw(), getegid().as_raw()];
    let of_host = [mapping.inside, mapping.user, mapping.count, mapping.group];
    // Outside of the namespace: only there it may map.
    let mut command = Command::new("sh");
    command
        .args(["-c", MAP, "sh"])
        .args(own.iter().chain(&of_host).map(ToString::to_string))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    #[allow(
        clippy::disallowed_methods,
        reason = "it is no worker, and is waited for at once"
    )]
    let mut helper = command
        .spawn()
        .map_err(|error| refused("sh cannot be run", error))?;
    let made = nix::sched::unshare(CloneFlags::CLONE_NEWUSER);
    let mut go = helper.stdin.take();
    if let (Ok(()), Some(go)) = (&made, &mut go) {
        // One that has ended says why.
        let _ended = go.write_all(b"go\n");
    }
    drop(go);
    let ended = helper.wait_with_output();
    made.map_err(|error| refused("a user namespace cannot be made", error))?;
    let ended = ended.map_err(|error| refused("newuidmap cannot be waited for", error))?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let said = crate::escape::for_log(said.trim());
    Err(NoSubordinateUsers::Refused(format!(
        "newuidmap or newgidmap (Debian's uidmap): {said}"
    )))
}

/// Becomes one of the mapped users, as a worker does: some hosts let a namespace be made and nothing be done in it.
fn become_one(number: u32) -> Result<(), NoSubordinateUsers> {
    let (user, group) = (Uid::from_raw(number), Gid::from_raw(number));
    let become_it = || {
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)
    };
    become_it().map_err(|error| refused("a process in a user namespace cannot become another user (kernel.apparmor_restrict_unprivileged_userns)", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_found_by_name_or_number_and_has_to_suffice() {
        let text = "anna:100000:65536\nbob:200000:1000\n1002:300000:70000\nbob:400000:65536\nodd\ncara:x:65536\ndora:0:65536\n";
        let find = |names| first_of(text, names, 65_536);
        assert_eq!(find(["anna", "1000"]), Some(100_000));
        assert_eq!(find(["bob", "1001"]), Some(400_000));
        assert_eq!(find(["none", "1002"]), Some(300_000));
        for nobody in ["cara", "dora", "odd", "eve"] {
            assert_eq!(find([nobody, "1003"]), None);
        }
    }
}
