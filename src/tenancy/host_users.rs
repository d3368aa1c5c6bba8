//! The Unix users that this host has for tenants' servers.

use std::ops::RangeInclusive;

use crate::config::Config;
use crate::process::{NoUsers, can_have_users};

/// What is used where the numbers of the default mean nothing: those of a container, in which nobody else has them.
const OF_CONTAINER: RangeInclusive<u32> = 30_000..=59_999;

/// The users that servers may run as here.
///
/// # Errors
/// Why none may: then all servers run as the user that stdiopool runs as.
pub(crate) fn users_of_host(config: &Config) -> Result<RangeInclusive<u32>, NoUsers> {
    let wanted = config.sandbox.uids.as_ref().ok_or(NoUsers::NotWanted)?;
    match can_have_users(wanted) {
        Ok(()) => Ok(wanted.clone()),
        Err(NoUsers::NotMapped(_))
            if !config.sandbox.is_given && can_have_users(&OF_CONTAINER).is_ok() =>
        {
            Ok(OF_CONTAINER)
        }
        Err(why) => Err(why),
    }
}
