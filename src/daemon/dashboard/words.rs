//! What the dashboard says in words of what the pool and authorisations tell as values.

use std::time::Duration;

use crate::counted::counted;
use crate::ids::{ServerName, TenantId};
use crate::pool::{NotHibernated, OpenCircuit, OpenConfiguration};
use crate::tenancy::oauth::Outlook;
use crate::upstream::start_failed;

/// For whom starts of a server are refused.
pub(super) fn of_circuit(circuit: &OpenCircuit) -> String {
    let OpenCircuit { server, tenant, .. } = circuit;
    let failing = counted(circuit.failing_keys, "configuration");
    match tenant {
        None => format!("starts of server `{server}` are refused for everyone: {failing} failed"),
        Some(tenant) => {
            format!(
                "starts of server `{server}` are refused for tenant `{tenant}`: {failing} failed"
            )
        }
    }
}

/// How the last start of a configuration failed.
pub(super) fn of_configuration(open: &OpenConfiguration) -> String {
    match &open.last {
        Some(last) => start_failed(last).1.into_owned(),
        None => format!(
            "{} failed in a row",
            counted(open.failures as usize, "start")
        ),
    }
}

/// What the matter is with an authorisation.
pub(super) fn of_grant(tenant: &TenantId, server: &ServerName, outlook: Outlook) -> String {
    let long = |time: Duration| {
        let whole = Duration::from_secs(time.as_secs());
        humantime::format_duration(whole)
    };
    match outlook {
        Outlook::Ends(left) => format!(
            "ends in {}, and there is no token to renew it with: tenant `{tenant}` has to authorise server `{server}` again (`stdiopool oauth link {tenant} {server}`)",
            long(left)
        ),
        Outlook::Fails { failures, retry_in } => format!(
            "{} for another access token failed in a row; the next is in {}",
            counted(failures as usize, "attempt"),
            long(retry_in)
        ),
    }
}

/// Why a worker is not hibernated; `None`: there is none.
pub(in crate::daemon) fn of_not_hibernated(
    id: crate::ids::WorkerId,
    why: NotHibernated,
) -> Option<String> {
    Some(match why {
        NotHibernated::NoSuchWorker => return None,
        NotHibernated::Starting => {
            format!("{id} is not ready yet: only an idle worker is hibernated")
        }
        NotHibernated::Busy(in_flight) => format!(
            "{id} has {} in flight: only an idle worker is hibernated",
            counted(in_flight, "request")
        ),
        NotHibernated::Asleep => format!("{id} is hibernated already"),
        NotHibernated::Leaving => format!("{id} is being stopped"),
        NotHibernated::Unsupported => format!(
            "{id} could not be paged out before, and it is not tried again (see the log, and `stdiopool doctor`)"
        ),
    })
}
