//! The list of endpoints, for who asks for `/` and is no browser.

/// The endpoints.
pub(super) const INDEX: &str = "\
stdiopool admin

GET  /                                  the dashboard, where text/html is accepted; this text else
GET  /metrics                           Prometheus text, or OpenMetrics by Accept
GET  /api/v1/status                     the whole at a glance
GET  /api/v1/overview                   the same with tenants, servers and workers that use most, at most 64 KiB: ?tenant=, ?server=,
                                        ?search=, ?sort=cpu, memory, workers, in_flight, queued, calls, errors or name, ?limit=20,
                                        ?follow=true streams one each 2 s
GET  /api/v1/history                    the last 24 hours, a point a minute: ?points=360 puts neighbours together
GET  /api/v1/workers                    live workers: ?processes=false leaves their process ids out, which are looked for
                                        in all of /proc
GET  /api/v1/workers/{id}               one of them, what it was started with, and what it went through
GET  /api/v1/workers/{id}/logs          its stderr: ?lines=100, ?follow=true streams events
GET  /api/v1/ended                      workers that have ended, and why: ?server=, ?tenant=, ?worker=
GET  /api/v1/sessions                   open sessions
GET  /api/v1/servers                    configured servers
GET  /api/v1/tenants                    tenants
GET  /api/v1/templates                  what workers of Python packages are forked from
GET  /api/v1/usage                      what tenants, users and servers have used: ?tenant=, ?user=, ?server=,
                                        ?since=30d or ms since 1970, ?per=hour, day, month or all
GET  /api/v1/requests                   single requests of late: ?tenant=, ?server=, ?state=open, failed or slow,
                                        ?limit=100
GET  /api/v1/requests/{id}              one of them, by `data.requestId` of an error or the id in the log
GET  /api/v1/rules                      whether rules about tools match the tools there are
GET  /api/v1/events                     what happens, as an event stream: ?since=10m or ms since 1970,
                                        ?follow=false for those that are remembered only
GET, PUT /api/v1/log-filter             what is logged; `filter`, and `seconds` until the first is back
POST /api/v1/workers/{id}/stop          stop a worker
POST /api/v1/workers/{id}/restart       stop a worker when what it has in flight is finished
POST /api/v1/workers/{id}/hibernate     page an idle worker out
POST /api/v1/drain                      finish what is in flight, then end
POST /api/v1/reload                     read pool.toml again

Tenants beside those of pool.toml, kept in the state store:
GET  /api/v1/accounts                   all tenants, and where each is defined
GET, POST, PATCH, DELETE /api/v1/tenants/{tenant}
GET  /api/v1/tokens, /api/v1/secrets    names and dates: ?tenant=
GET, POST /api/v1/tenants/{tenant}/tokens
DELETE    /api/v1/tenants/{tenant}/tokens/{name}
GET       /api/v1/tenants/{tenant}/secrets
PUT, DELETE /api/v1/tenants/{tenant}/secrets/{name}
GET  /api/v1/oauth                      what is authorised upstream: ?tenant=
GET       /api/v1/tenants/{tenant}/oauth
POST, DELETE /api/v1/tenants/{tenant}/oauth/{server}   a link to authorise it; revoke
";
