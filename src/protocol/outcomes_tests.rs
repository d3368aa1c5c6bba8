use std::fmt::Write;
use std::path::Path;

use super::*;

/// A cell's text: without the full stop and the blanks of a comment.
fn cell(about: &str) -> String {
    about.trim().trim_end_matches('.').replace('|', "\\|")
}

/// `docs/errors.md`.
fn document() -> String {
    let mut text = String::from(
        "<!-- Made from src/protocol/outcomes.rs: BLESS=1 cargo test the_document_of_errors -->\n\n# Errors\n\n\
        Errors that stdiopool makes are JSON-RPC errors. Their `data` has:\n\n\
        | member | what it is |\n| --- | --- |\n\
        | `reason` | the first table; without it, the error is one that a server could have made (an unknown tool), or the second table's |\n\
        | `retryAfterMs` | where a later try may help: how long to wait first |\n\
        | `requestId` | names the HTTP request, of which the messages of a batch share one: `stdiopool` logs it with each line of that request, `stdiopool trace` shows where its time went, and the audit log has it |\n\
        | others | as the message says, such as `errors` with JSON pointers of `config_invalid` |\n\n\
        A line of the log ends with `request{id=… tenant=… server=… method=… session=…}`, or has the member `request` with `--log-format json`. \
        Of each tenant up to 30 failures a minute are logged, and all with `STDIOPOOL_LOG=debug`.\n\n\
        ## Requests that fail\n\n\
        `answer`: the status of the answer to a request with `http.failure_status = \"auto\"` ([why](clients.md#requests-that-fail)). With `\"http\"`, and where there is no request \
        to answer, it is that of `HTTP`. The reason is also the label of `stdiopool_rejections_total`. `exit`: the exit code of a command that is told so.\n\n\
        | reason | HTTP | answer | code | exit | when |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for reason in Reason::ALL {
        let row = (reason.as_str(), reason.http_status(), reason.rpc_code());
        let answer = reason.status_of_answer(FailureStatus::Auto);
        // Whichever it is, a command that is told it has failed.
        let (exit, about) = (CommandEnd::Failed as u8, cell(reason.about()));
        writeln!(
            text,
            "| `{}` | {} | {answer} | {} | {exit} | {about} |",
            row.0, row.1, row.2
        )
        .expect("in memory");
    }
    text.push_str("\n## Requests of 2026-07-28 that are at fault\n\n| HTTP | code | when |\n| --- | --- | --- |\n");
    for fault in FaultKind::ALL {
        let (status, code) = (fault.http_status(), fault.rpc_code());
        writeln!(text, "| {status} | {code} | {} |", cell(fault.about())).expect("in memory");
    }
    text.push_str("\n## Requests of which nothing but the head is looked at\n\nThe reason is `invalid_request`, where there is an error.\n\n| HTTP | when |\n| --- | --- |\n");
    for refusal in HttpRefusal::ALL {
        let about = cell(refusal.about());
        writeln!(text, "| {} | {about} |", refusal.http_status()).expect("in memory");
    }
    text.push_str("\n## Workers that end\n\nThe label `reason` of `stdiopool_worker_exits_total`, and `reason` of events and of workers that have ended.\n\n| reason | kind | when |\n| --- | --- | --- |\n");
    for exit in ExitReason::ALL {
        let kind = match exit.class() {
            ExitClass::Normal => "normal",
            ExitClass::Operator => "yours",
            ExitClass::Failure => "failure",
        };
        let about = cell(exit.about());
        writeln!(text, "| `{}` | {kind} | {about} |", exit.as_str()).expect("in memory");
    }
    text.push_str("\n## The admin API\n\n| reason | HTTP | when |\n| --- | --- | --- |\n");
    for reason in ApiReason::ALL {
        let (status, about) = (reason.http_status(), cell(reason.about()));
        writeln!(text, "| `{}` | {status} | {about} |", reason.as_str()).expect("in memory");
    }
    text.push_str("\n## Exit codes\n\n| code | when |\n| --- | --- |\n");
    for (end, about) in [
        (CommandEnd::Done, "it was done"),
        (CommandEnd::Failed, "what was asked for failed"),
        (
            CommandEnd::Usage,
            "it cannot be understood as it was written",
        ),
    ] {
        writeln!(text, "| {} | {about} |", end as u8).expect("in memory");
    }
    text
}

#[test]
fn the_document_of_errors_says_what_the_tables_say() {
    let made = document();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/errors.md is out of date: BLESS=1 cargo test the_document_of_errors"
    );
}

/// Programs read what stands here: it changes only on purpose.
#[test]
fn the_tables_of_outcomes_are_a_contract() {
    let mut table = String::new();
    for reason in Reason::ALL {
        let row = (reason.as_str(), reason.http_status(), reason.rpc_code());
        let answer = reason.status_of_answer(FailureStatus::Auto);
        let exit = CommandEnd::Failed as u8;
        writeln!(table, "{} {} {answer} {} {exit}", row.0, row.1, row.2).expect("in memory");
    }
    for fault in FaultKind::ALL {
        let row = (fault.http_status(), fault.rpc_code());
        writeln!(table, "{fault:?} {} {}", row.0, row.1).expect("in memory");
    }
    for refusal in HttpRefusal::ALL {
        writeln!(table, "{refusal:?} {}", refusal.http_status()).expect("in memory");
    }
    for exit in ExitReason::ALL {
        writeln!(table, "{} {:?}", exit.as_str(), exit.class()).expect("in memory");
    }
    for reason in ApiReason::ALL {
        let row = (reason.as_str(), reason.http_status());
        writeln!(table, "api {} {}", row.0, row.1).expect("in memory");
    }
    for end in [CommandEnd::Done, CommandEnd::Failed, CommandEnd::Usage] {
        writeln!(table, "exit {end:?} {}", end as u8).expect("in memory");
    }
    insta::assert_snapshot!(table);
}

#[test]
fn names_are_there_once() {
    let names = [
        Reason::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>(),
        ExitReason::ALL.iter().map(|it| it.as_str()).collect(),
        ApiReason::ALL.iter().map(|it| it.as_str()).collect(),
    ];
    for names in names {
        let mut once = names.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), names.len(), "{names:?}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_by_a_status_whatever_is_set() {
    let of = |reason: Reason| {
        let of = |statuses| reason.status_of_answer(statuses);
        (of(FailureStatus::Auto), of(FailureStatus::Http))
    };
    assert_eq!(of(Reason::Busy), (200, 503));
    assert_eq!(of(Reason::TenantLimit), (200, 429));
    assert_eq!(of(Reason::NotFound), (404, 404));
    assert_eq!(of(Reason::ConfigInvalid), (200, 400));
    assert_eq!(of(Reason::MessageTooLarge), (200, 413));
    assert_eq!(of(Reason::AnswerTooLarge), (200, 502));
    for reason in Reason::ALL {
        assert_eq!(of(*reason).1, reason.http_status());
        let is_of_request = (400..=415).contains(&reason.http_status());
        assert!(is_of_request || of(*reason).0 == 200, "{reason:?}");
    }
}

/// Statuses of errors that are named elsewhere, each with its reason: how often by file.
const NAMED_ELSEWHERE: [(&str, usize); 6] = [
    // What has no status of its own in the table because the table's is no status.
    ("front/response/reply.rs", 1),
    ("admin/error.rs", 1),
    // An answer of the admin API that cannot be written as JSON, of which its errors are made, too.
    ("admin/json.rs", 1),
    // The method is not one of the endpoint's, which has no message.
    ("front/response/reply.rs", 1),
    // Pages for people.
    ("front/api/oauth.rs", 2),
    // Readiness, for balancers; and a method that a path has not, which has no message.
    ("front/router.rs", 2),
];

#[test]
fn no_other_file_chooses_the_status_of_an_error() {
    const ERRORS: [&str; 16] = [
        "BAD_REQUEST",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "NOT_FOUND",
        "METHOD_NOT_ALLOWED",
        "NOT_ACCEPTABLE",
        "REQUEST_TIMEOUT",
        "CONFLICT",
        "GONE",
        "PAYLOAD_TOO_LARGE",
        "UNSUPPORTED_MEDIA_TYPE",
        "EXPECTATION_FAILED",
        "TOO_MANY_REQUESTS",
        "INTERNAL_SERVER_ERROR",
        "NOT_IMPLEMENTED",
        "SERVICE_UNAVAILABLE",
    ];
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![src.join("front"), src.join("admin")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&src)
                .expect("below")
                .display()
                .to_string();
            if name.ends_with("tests.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let chosen = code.lines().filter(|line| {
                // What is compared is not chosen.
                !line.contains("==")
                    && ERRORS
                        .iter()
                        .any(|error| line.contains(&format!("StatusCode::{error}")))
            });
            let allowed = NAMED_ELSEWHERE.iter().filter(|(file, _)| *file == name);
            let allowed: usize = allowed.map(|(_, count)| count).sum();
            assert_eq!(
                chosen.count(),
                allowed,
                "{name}: take the status from `protocol::Reason` or its like"
            );
        }
    }
}
