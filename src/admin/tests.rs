//! The router over a supervisor that is made up.

mod dashboard_tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::ids::{RequestId, ServerName, TenantId, WorkerId};
use crate::protocol::sse;
use crate::store::UsageFilter;
use crate::telemetry::labels::{Era, Outcome, WorkerState};
use crate::telemetry::{self, FilterError, Metrics, RequestSpan};
use crate::usage::Amounts;

/// A supervisor with one worker, `w7`, that writes down what it is told to do.
pub(crate) struct Fake {
    pub(crate) done: Mutex<Vec<String>>,
    pub(crate) log: broadcast::Sender<String>,
    events: broadcast::Sender<Event>,
    looks: AtomicUsize,
    reload: Result<String, String>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            done: Mutex::default(),
            log: broadcast::channel(2).0,
            events: broadcast::channel(2).0,
            looks: AtomicUsize::new(0),
            reload: Ok("1 server changed".into()),
        }
    }
}

impl Supervisor for Fake {
    fn status(&self) -> Status {
        let mut workers = WorkerCounts::default();
        workers.add(WorkerState::Busy);
        Status {
            version: "0.0.0".into(),
            pid: 1,
            uptime_seconds: 2.5,
            state: SupervisorState::Ready,
            config: Some("pool.toml".into()),
            workers,
            limits: LimitsInForce {
                max_workers: 64,
                max_workers_per_tenant: 8,
                max_starting: 2,
                max_memory_bytes: 1 << 30,
                queue_limit: 1024,
                queue_timeout_seconds: 30.0,
                idle_timeout_seconds: 600.0,
            },
            memory_bytes: 70 << 20,
            queue_depth: 1,
            longest_wait: Some(LongestWait {
                seconds: 2.5,
                tenant: TenantId::new("acme"),
                server: ServerName::new("github"),
                message: "no worker within 2s".into(),
            }),
            sessions: 1,
            starts: StartCounts { ok: 1, failed: 0 },
            circuits: vec![CircuitRow {
                tenant: None,
                configuration: false,
                server: ServerName::new("broken"),
                failures_in_a_row: None,
                failing_configurations: Some(5),
                retry_in_seconds: 12.0,
            }],
        }
    }

    fn workers(&self, processes: bool) -> Vec<WorkerRow> {
        let processes = if processes { vec![4000, 4001] } else { vec![] };
        vec![WorkerRow {
            id: WorkerId(7),
            server: ServerName::new("github"),
            tenant: TenantId::new("acme"),
            state: WorkerState::Busy,
            pid: Some(4000),
            processes,
            in_flight: 1,
            pinned: true,
            requests: 3,
            age_seconds: 61.0,
            idle_seconds: None,
            key: "00ff".into(),
            memory_bytes: Some(1 << 20),
            stderr_lines: 2,
            start: None,
            life: Timeline::default(),
        }]
    }

    fn worker(&self, worker: WorkerId) -> Option<WorkerRow> {
        let row = self
            .workers(true)
            .into_iter()
            .find(|row| row.id == worker)?;
        let start = StartRow {
            program: "npx".into(),
            args: vec!["-y".into(), "--token=[redacted]".into()],
            env: vec!["HOME".into()],
            cwd: "/data".into(),
            is_callers: false,
        };
        let start = Some(start);
        let life = timeline();
        Some(WorkerRow { start, life, ..row })
    }

    fn sessions(&self) -> Vec<SessionRow> {
        vec![SessionRow {
            session: Fingerprint::of("a-very-secret-session-id"),
            server: ServerName::new("github"),
            tenant: TenantId::new("acme"),
            era: Era::Legacy,
            revision: "2025-11-25".into(),
            client: Some("inspector 2.12".into()),
            worker: Some(WorkerId(7)),
            in_flight: 1,
            streams: 0,
            age_seconds: 5.0,
            idle_seconds: 0.5,
        }]
    }

    fn servers(&self) -> Vec<ServerRow> {
        vec![]
    }

    fn usage(&self, filter: UsageFilter) -> UsageReading {
        let names = [
            filter.tenant.unwrap_or_default(),
            String::new(),
            "github".into(),
        ];
        let row = UsageRow::new(0, filter.span, names, Amounts::default());
        Box::pin(async move {
            Ok(UsageReport {
                saved_at_ms: None,
                is_whole: true,
                rows: vec![row],
            })
        })
    }

    fn requests(&self, filter: &RequestFilter) -> Vec<RequestRow> {
        let found = telemetry::requests(filter.limit, |request| filter.is_meant(request));
        found.into_iter().map(RequestRow::from).collect()
    }

    fn request(&self, id: RequestId) -> Option<RequestRow> {
        telemetry::request(id).map(RequestRow::from)
    }

    fn log_filter(&self) -> Result<LogFilterRow, FilterError> {
        Ok(telemetry::log_filter()?.into())
    }

    fn set_log_filter(&self, new: &NewLogFilter) -> Result<LogFilterRow, FilterError> {
        Ok(telemetry::set_log_filter(new.filter.as_deref(), new.lasting())?.into())
    }

    fn rules(&self) -> RuleCheck {
        RuleCheck::default()
    }

    fn templates(&self) -> super::PrimedStarts {
        super::PrimedStarts::default()
    }

    fn tenants(&self) -> Vec<TenantRow> {
        vec![]
    }

    fn logs(&self, worker: WorkerId, lines: usize) -> Option<Vec<String>> {
        let all = ["one", "two", "th\rree"];
        (worker == WorkerId(7) || worker == WorkerId(6)).then(|| {
            all[all.len().saturating_sub(lines)..]
                .iter()
                .map(|&line| line.to_owned())
                .collect()
        })
    }

    fn follow_logs(&self, worker: WorkerId, lines: usize) -> Option<LogFollow> {
        Some(LogFollow {
            past: self.logs(worker, lines)?,
            next: self.log.subscribe(),
        })
    }

    fn stop_worker(&self, worker: WorkerId) -> bool {
        self.done.lock().push(format!("stop {worker}"));
        worker == WorkerId(7)
    }

    fn restart_worker(&self, worker: WorkerId) -> bool {
        self.done.lock().push(format!("restart {worker}"));
        worker == WorkerId(7)
    }

    fn drain(&self) {
        self.done.lock().push("drain".into());
    }

    fn reload(&self) -> Reload {
        let result = self.reload.clone();
        Box::pin(async move { result.map_err(|why| NotReloaded::from(Box::from(why))) })
    }

    fn account(&self, act: Act) -> Accounting {
        let said = format!(
            "{} {}",
            act.name(),
            act.tenant().or(act.object()).unwrap_or_default()
        );
        self.done.lock().push(said.clone());
        Box::pin(async move { Ok(Reply::Done { message: said }) })
    }

    fn ended(&self) -> Vec<EndedRow> {
        vec![EndedRow {
            id: WorkerId(6),
            server: ServerName::new("github"),
            tenant: Some(TenantId::new("acme")),
            ended_at_ms: 1_772_373_750_000,
            reason: "crashed".into(),
            message: "exited with status 1".into(),
            exit: Some("exit 1".into()),
            age_seconds: 3.0,
            stderr_lines: 2,
            life: Timeline::default(),
        }]
    }

    fn ended_worker(&self, worker: WorkerId) -> Option<EndedRow> {
        let row = self.ended().into_iter().find(|row| row.id == worker)?;
        let life = timeline();
        Some(EndedRow { life, ..row })
    }

    fn overview(&self) -> Arc<overview::Frame> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        Arc::new(overview::Frame::default_of(self.status()))
    }

    fn history(&self, points: usize) -> minutes::History {
        minutes::Minutes::default().history(1_772_373_750_000, points)
    }

    fn hibernate_worker(&self, worker: WorkerId) -> Result<(), NotHibernated> {
        self.done.lock().push(format!("hibernate {worker}"));
        match worker {
            WorkerId(7) => Ok(()),
            WorkerId(5) => Err(NotHibernated::Unavailable(
                "w5 has 2 requests in flight".into(),
            )),
            _ => Err(NotHibernated::NoSuchWorker),
        }
    }

    fn events(&self, since_ms: Option<u64>) -> EventFollow {
        let is_meant = |event: &Event| since_ms.is_some_and(|since| event.at_ms >= since);
        EventFollow {
            past: vec![event(1), event(2)]
                .into_iter()
                .filter(is_meant)
                .collect(),
            next: self.events.subscribe(),
        }
    }
}

fn timeline() -> Timeline {
    let row = TimelineRow {
        at_ms: 1_772_373_747_000,
        state: "starting".into(),
        message: "started".into(),
    };
    Timeline {
        timeline: vec![row],
        timeline_left_out: 0,
    }
}

fn event(at_ms: u64) -> Event {
    Event {
        at_ms,
        kind: EventKind::WorkerReady,
        server: Some(ServerName::new("github")),
        tenant: None,
        worker: Some(WorkerId(7)),
        reason: None,
        message: "w7 is ready".into(),
    }
}

fn options(listen: &str, token: Option<&str>) -> Options {
    Options {
        listen: listen.parse::<SocketAddr>().expect("an address"),
        token: token.map(Into::into),
        shutdown: CancellationToken::new(),
    }
}

fn app(fake: &Arc<Fake>) -> Router {
    router(
        Arc::clone(fake),
        Metrics::new(),
        options("127.0.0.1:9090", None),
    )
    .expect("loopback")
}

async fn send(
    app: Router,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "127.0.0.1:9090");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = app.oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("short");
    let body = String::from_utf8(body.to_vec()).expect("text");
    (parts.status, parts.headers, body)
}

async fn get(path: &str) -> (StatusCode, Value) {
    let (status, _, body) = send(app(&Arc::default()), Method::GET, path, &[]).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

#[tokio::test]
async fn the_rows_are_a_contract() {
    let (_, status) = get("/api/v1/status").await;
    let (_, worker) = get("/api/v1/workers/w7").await;
    let (_, sessions) = get("/api/v1/sessions").await;
    insta::assert_snapshot!(
        serde_json::to_string_pretty(&json!({
            "status": status, "worker": worker, "sessions": sessions,
        }))
        .expect("JSON")
    );
    let (code, workers) = get("/api/v1/workers").await;
    let row: WorkerRow = serde_json::from_value(worker.clone()).expect("reads back");
    assert_eq!(Some(row), Fake::default().worker(WorkerId(7)));
    // What one was started with is for whoever looks at that one.
    let mut listed = worker;
    let row = listed.as_object_mut().expect("a row");
    let own = ["start", "timeline"].map(|name| row.remove(name));
    assert!(own.iter().all(Option::is_some) && code == StatusCode::OK);
    assert_eq!(workers, json!([listed]));
    let (_, workers) = get("/api/v1/workers?processes=false").await;
    listed["processes"] = json!([]);
    assert_eq!(workers, json!([listed]));
    assert!(!sessions.to_string().contains("secret"));
}

#[tokio::test]
async fn what_is_not_there_is_said_in_json() {
    for (path, code, reason) in [
        ("/nothing", 404, "not_found"),
        ("/api/v1/workers/w8", 404, "not_found"),
        ("/api/v1/workers/w8/logs", 404, "not_found"),
        ("/api/v1/workers/w8/logs?follow=true", 404, "not_found"),
        ("/api/v1/workers/seven", 400, "invalid_request"),
        ("/api/v1/workers/w7/logs?lines=-1", 400, "invalid_request"),
        ("/api/v1/workers?processes=some", 400, "invalid_request"),
        ("/api/v1/workers/w7/stop", 405, "method_not_allowed"),
        ("/api/v1/workers/w7/restart", 405, "method_not_allowed"),
    ] {
        let (status, body) = get(path).await;
        assert_eq!(
            (status.as_u16(), &body["reason"]),
            (code, &json!(reason)),
            "{path}: {body}"
        );
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()));
    }
    let (_, headers, _) = send(app(&Arc::default()), Method::GET, "/api/v1/drain", &[]).await;
    assert_eq!(headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn what_was_used_is_told_in_the_spans_that_are_asked_for() {
    let (status, told) = get("/api/v1/usage?tenant=acme&since=30d&per=month").await;
    assert_eq!(status, StatusCode::OK);
    let row = &told["rows"][0];
    assert_eq!(
        (&row["tenant"], &row["user"]),
        (&json!("acme"), &json!(null))
    );
    assert_eq!(
        (&row["span"], &row["from"]),
        (&json!("month"), &json!("1970-01-01T00:00:00Z"))
    );
    assert_eq!(get("/api/v1/usage").await.1["rows"][0]["span"], "day");
    for wrong in ["per=week", "since=lately"] {
        let (status, said) = get(&format!("/api/v1/usage?{wrong}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    }
}

#[tokio::test]
async fn single_requests_are_told_by_their_id_and_by_what_they_are() {
    let of = |tenant: &str| {
        let span = RequestSpan::begin();
        span.is_of(&TenantId::new(tenant));
        telemetry::remember(&span);
        span
    };
    let (failed, open) = (of("traced"), of("traced"));
    let reason = Some("timeout");
    let (waited, took) = (Duration::from_millis(20), Duration::from_secs(2));
    failed.progress().waited(waited);
    failed.progress().ended(took, Outcome::Failed, reason);
    let (status, row) = get(&format!("/api/v1/requests/{}", failed.id())).await;
    assert_eq!(status, StatusCode::OK, "{row}");
    assert_eq!(
        (
            &row["outcome"],
            &row["reason"],
            &row["waited_ms"],
            &row["total_ms"]
        ),
        (
            &json!("failed"),
            &json!("timeout"),
            &json!(20.0),
            &json!(2000.0)
        )
    );
    let ids = |query: &'static str| async move {
        let rows = get(&format!("/api/v1/requests?tenant=traced{query}"))
            .await
            .1;
        let rows = rows.as_array().expect("rows").clone();
        rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>()
    };
    let [failed, open] = [failed, open].map(|span| json!(span.id().to_string()));
    assert_eq!(
        ids("").await,
        [open.clone(), failed.clone()],
        "the latest first"
    );
    assert_eq!(ids("&limit=1").await, std::slice::from_ref(&open));
    assert_eq!(ids("&state=open").await, std::slice::from_ref(&open));
    assert_eq!(ids("&state=failed").await, std::slice::from_ref(&failed));
    assert_eq!(ids("&state=slow").await, std::slice::from_ref(&failed));
    assert_eq!(
        ids("&server=none").await,
        json!([]).as_array().expect("none").clone()
    );
    let (forgotten, run) = (RequestSpan::begin().id(), "zz");
    for (path, code) in [
        (format!("/api/v1/requests/{forgotten}"), 404),
        (format!("/api/v1/requests/{run}"), 400),
        ("/api/v1/requests?state=lost".to_owned(), 400),
    ] {
        let (status, said) = get(&path).await;
        assert_eq!(status.as_u16(), code, "{path}: {said}");
    }
}

#[tokio::test]
async fn what_is_over_is_told() {
    let (status, rows) = get("/api/v1/ended?server=github&tenant=acme").await;
    assert_eq!((status, &rows[0]["id"]), (StatusCode::OK, &json!("w6")));
    assert_eq!(get("/api/v1/ended?server=gitlab").await.1, json!([]));
    let (_, log) = get("/api/v1/workers/w6/logs?lines=2").await;
    assert_eq!(log["lines"], json!(["two", "th\rree"]));
    let app = || app(&Arc::default());
    let (status, _, body) = send(app(), Method::POST, "/api/v1/workers/w6/stop", &[]).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(
        body.contains("w6 ended at 14:02 UTC (exit 1); its last lines:\\none"),
        "{body}"
    );
    let of = |query: &str| {
        let path = format!("/api/v1/events?follow=false{query}");
        async move { get(&path).await.1 }
    };
    assert_eq!(of("").await.as_array().map(Vec::len), Some(2));
    assert_eq!(of("&since=2").await[0]["at_ms"], 2);
    assert_eq!(of("&since=10m").await, json!([]));
    let (status, said) = get("/api/v1/events?since=lately").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
}

#[tokio::test]
async fn actions_reach_the_supervisor() {
    let fake = Arc::new(Fake::default());
    let act = |path| send(app(&fake), Method::POST, path, &[]);
    assert_eq!(act("/api/v1/workers/w7/stop").await.0, StatusCode::ACCEPTED);
    assert_eq!(
        act("/api/v1/workers/w9/stop").await.0,
        StatusCode::NOT_FOUND
    );
    let restart = "/api/v1/workers/w7/restart";
    assert_eq!(act(restart).await.0, StatusCode::ACCEPTED);
    let restart = "/api/v1/workers/w9/restart";
    assert_eq!(act(restart).await.0, StatusCode::NOT_FOUND);
    assert_eq!(act("/api/v1/drain").await.0, StatusCode::ACCEPTED);
    let (status, _, body) = act("/api/v1/reload").await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::OK, r#"{"message":"1 server changed"}"#)
    );
    assert_eq!(
        *fake.done.lock(),
        ["stop w7", "stop w9", "restart w7", "restart w9", "drain"]
    );

    let broken = Arc::new(Fake {
        reload: Err("pool.toml:3:1: no".into()),
        ..Fake::default()
    });
    let (status, _, body) = send(app(&broken), Method::POST, "/api/v1/reload", &[]).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(body.contains("pool.toml:3:1"), "{body}");
}

#[tokio::test]
async fn a_web_page_can_neither_act_nor_read() {
    let fake = Arc::new(Fake::default());
    let post = Method::POST;
    let page = [("origin", "https://evil.example")];
    let (status, _, body) = send(app(&fake), post.clone(), "/api/v1/drain", &page).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
    for host in ["evil.example", "127.0.0.1.evil.example:9090", ""] {
        let host = [("host", host)];
        let read = send(app(&fake), Method::GET, "/api/v1/workers", &host).await;
        assert_eq!(read.0, StatusCode::FORBIDDEN, "{host:?}");
        let (status, ..) = send(app(&fake), post.clone(), "/api/v1/drain", &host).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{host:?}");
    }
    assert!(fake.done.lock().is_empty());
    let local = [("host", "localhost:9090")];
    assert_eq!(
        send(app(&fake), Method::GET, "/", &local).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_token_guards_everything() {
    let made = |listen: &str, token| {
        router(
            Arc::new(Fake::default()),
            Metrics::new(),
            options(listen, token),
        )
    };
    assert!(matches!(
        made("0.0.0.0:9090", None),
        Err(AdminError::TokenRequired(_))
    ));
    assert!(matches!(
        made("127.0.0.1:9090", Some("")),
        Err(AdminError::EmptyToken)
    ));
    // Where everyone may connect the token is the guard, and the name is the operator's choice.
    let app = made("0.0.0.0:9090", Some("s3cret")).expect("has a token");
    let host = ("host", "pool.example");
    for path in ["/", "/metrics", "/api/v1/workers", "/nothing"] {
        for auth in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Bearer s3cret2",
            "Basic s3cret",
            "s3cret",
        ] {
            let headers = [host, ("authorization", auth)];
            let (status, headers, _) = send(app.clone(), Method::GET, path, &headers).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {auth:?}");
            assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer");
        }
    }
    for auth in ["Bearer s3cret", "bearer s3cret"] {
        let headers = [host, ("authorization", auth)];
        let (status, ..) = send(app.clone(), Method::GET, "/metrics", &headers).await;
        assert_eq!(status, StatusCode::OK, "{auth}");
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_asked_for() {
    let open = [(
        "accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
    )];
    let (_, headers, body) = send(app(&Arc::default()), Method::GET, "/metrics", &open).await;
    assert!(
        headers[header::CONTENT_TYPE]
            .to_str()
            .expect("text")
            .starts_with("application/openmetrics-text; version=1.0.0")
    );
    assert!(
        body.ends_with("# EOF\n") && body.contains("\nprocess_cpu_seconds_total "),
        "{body}"
    );
    let (_, headers, body) = send(app(&Arc::default()), Method::GET, "/metrics", &[]).await;
    assert!(
        headers[header::CONTENT_TYPE]
            .to_str()
            .expect("text")
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(body.contains("stdiopool_build_info{version=\"") && !body.contains("# EOF"));
}

#[tokio::test]
async fn logs_are_the_last_lines() {
    let (_, all) = get("/api/v1/workers/w7/logs").await;
    assert_eq!(
        all,
        json!({ "worker": "w7", "lines": ["one", "two", "th\rree"] })
    );
    let (_, last) = get("/api/v1/workers/7/logs?lines=1&follow=false").await;
    assert_eq!(last["lines"], json!(["th\rree"]));
}

/// Reads a stream until `enough` events are there.
async fn take(
    body: &mut axum::body::BodyDataStream,
    parser: &mut sse::Parser,
    enough: usize,
) -> Vec<(Option<String>, String)> {
    let mut events = vec![];
    while events.len() < enough {
        let piece = body.next().await.expect("goes on").expect("no error");
        parser.push(&piece, &mut events).expect("short");
    }
    events
        .into_iter()
        .map(|e| (e.event, String::from_utf8(e.data).expect("text")))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_followed_log_goes_on_until_the_worker_is_gone() {
    let fake = Arc::new(Fake::default());
    let request = Request::get("/api/v1/workers/w7/logs?follow=true&lines=1")
        .header("host", "localhost")
        .body(Body::empty())
        .expect("a request");
    let response = app(&fake).oneshot(request).await.expect("infallible");
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/event-stream"
    );
    let mut body = response.into_body().into_data_stream();
    let parser = &mut sse::Parser::new(1000);
    let line = |text: &str| (None, format!(r#"{{"line":"{text}"}}"#));
    assert_eq!(take(&mut body, parser, 1).await, [line(r"th\rree")]);
    fake.log.send("four".into()).expect("followed");
    assert_eq!(take(&mut body, parser, 1).await, [line("four")]);
    // Paused time runs on when nothing else does: a quiet stream shows that it is alive.
    assert_eq!(
        body.next().await.expect("goes on").expect("no error"),
        sse::KEEP_ALIVE
    );
    for text in ["five", "six", "seven"] {
        fake.log.send(text.into()).expect("followed");
    }
    let lagged = (Some("lagged".to_owned()), "1".to_owned());
    assert_eq!(
        take(&mut body, parser, 3).await,
        [lagged, line("six"), line("seven")]
    );
    drop(fake);
    assert!(
        body.next().await.is_none(),
        "the sender is gone, and the stream with it"
    );
}

#[tokio::test]
async fn shutdown_ends_open_streams_and_their_number_is_bounded() {
    let fake = Arc::new(Fake::default());
    let options = options("127.0.0.1:9090", None);
    let shutdown = options.shutdown.clone();
    let app = router(Arc::clone(&fake), Metrics::new(), options).expect("loopback");
    let open = || {
        let request = Request::get("/api/v1/events").header("host", "localhost");
        app.clone()
            .oneshot(request.body(Body::empty()).expect("a request"))
    };
    let mut streams = std::collections::VecDeque::new();
    let mut ended = 0;
    for _ in 0..100 {
        let response = open().await.expect("infallible");
        assert_eq!(response.status(), StatusCode::OK, "nobody is kept out");
        streams.push_back(response.into_body().into_data_stream());
    }
    // The oldest make room.
    while let Some(end) = streams[0].next().now_or_never() {
        assert!(end.is_none(), "nothing was told");
        streams.pop_front();
        ended += 1;
    }
    assert!(ended >= 36 && streams.len() <= 64, "{ended}");
    fake.events.send(event(1)).expect("followed");
    let mut last = streams.pop_back().expect("opened");
    let event = take(&mut last, &mut sse::Parser::new(1000), 1).await;
    assert_eq!(
        event[0].1,
        r#"{"at_ms":1,"kind":"worker_ready","server":"github","tenant":null,"worker":"w7","message":"w7 is ready"}"#
    );
    shutdown.cancel();
    assert!(last.next().await.is_none());
    drop((last, streams));
    let mut again = open().await.expect("infallible");
    assert_eq!(
        again.status(),
        StatusCode::OK,
        "closed streams free their places"
    );
    again = open().await.expect("infallible");
    assert!(again.into_body().into_data_stream().next().await.is_none());
}
