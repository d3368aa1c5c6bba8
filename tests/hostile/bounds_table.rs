//! The table of bounds in docs/architecture.md: each row is filled by a test, or it is said why nobody needs to.

/// Who fills a bound, or why nobody needs to.
enum Filled {
    /// A test, by the name of its function.
    By(&'static str),
    /// What is bounded is not what a client or a server sent, or is a time.
    NeedNot(&'static str),
}

use Filled::{By, NeedNot};

/// Every row of the table of bounds, by what its first cell begins with.
const ROWS: &[(&str, Filled)] = &[
    (
        "what of an earlier version is given to its tenant's user",
        By("nothing_is_given_of_a_folder_with_too_much_in_it"),
    ),
    (
        "files in servers' folders that stdiopool reads",
        By("a_plain_file_is_not_read_when_it_is_too_long"),
    ),
    (
        "files and folders that are counted for `limits.disk`",
        NeedNot("nothing is kept of what is counted but a number"),
    ),
    ("hosts of a list in `network`", By("a_list_has_bounds")),
    (
        "connections of a worker with such a list",
        By("a_worker_has_so_many_connections_and_those_with_few_have_a_share_of_their_own"),
    ),
    (
        "names of a worker that have addresses at a time",
        By("a_full_table_takes_the_oldest_that_nobody_uses"),
    ),
    (
        "lookups for workers at a time",
        NeedNot("each is a connection's, and holds a name"),
    ),
    (
        "what is told of attempts that nothing listens for",
        By("a_flood_of_connections_is_the_flooders_own"),
    ),
    (
        "templates of Python packages",
        By("templates_come_and_go_by_their_states"),
    ),
    (
        "users of tenants",
        By("a_tenants_user_is_its_own_and_stays_so"),
    ),
    (
        "what a profile, or `sandbox = \"observe\"`, records of a server",
        By("whatever_a_server_does_the_record_stays_bounded_and_says_what_it_left_out"),
    ),
    (
        "servers that are profiled at once from one state folder",
        By("no_two_profiles_have_a_user_in_common_and_none_has_a_tenants"),
    ),
    (
        "users and servers of which an hour's use is told apart",
        By("bounds_put_rows_together_and_lose_nothing"),
    ),
    (
        "rows of what was used",
        By("what_is_too_much_is_put_together_before_anything_goes"),
    ),
    (
        "what a tenant uses in a month",
        By("a_quota_refuses_says_when_it_begins_anew_and_is_raised_by_a_reload"),
    ),
    (
        "rows of one answer of the admin API on what was used",
        NeedNot("what is read is the operator's own question"),
    ),
    (
        "requests that are remembered for `stdiopool trace`",
        NeedNot("a number of rows of fixed size"),
    ),
    (
        "requests whose spans wait to be exported",
        By("what_does_not_fit_into_the_queue_is_dropped_and_counted"),
    ),
    (
        "servers of tenants that were found to have one process at a time",
        NeedNot("entries of fixed size, of servers that are in pool.toml"),
    ),
    (
        "nesting and numbers of a client's message",
        By("nothing_that_a_server_would_drop_is_waited_for"),
    ),
    (
        "warnings of messages of a worker that are off",
        By("an_answer_of_which_nothing_can_be_made_fails_its_request_at_once"),
    ),
    (
        "a message of a worker over several lines",
        By("what_names_its_request_in_any_way_fails_it_at_once_and_no_other"),
    ),
    (
        "a piece of a worker's line whose end does not come",
        By("a_line_end_that_never_comes_is_not_waited_for"),
    ),
    (
        "messages of a worker that may have answered any of several requests",
        By("what_may_answer_any_of_several_fails_those_that_show_no_life"),
    ),
    ("connections", By("strangers_are_the_first_to_make_room")),
    (
        "connections of an address",
        By("an_address_may_have_so_many_connections"),
    ),
    (
        "time of a connection",
        By("idle_connections_end_in_both_versions_and_clients_are_told_before"),
    ),
    (
        "requests at once over one connection of HTTP/2",
        NeedNot("a setting of the HTTP library, which its own tests fill"),
    ),
    (
        "heads that have not ended",
        By("what_strangers_connections_hold_has_a_bound"),
    ),
    (
        "connections of the admin listener",
        By("event_streams_of_the_admin_api_do_not_keep_the_operator_out"),
    ),
    ("request body", By("faults_of_a_request_are_told_apart")),
    (
        "what is held for tenants",
        By("a_tenant_is_refused_at_its_limit_and_another_is_not"),
    ),
    (
        "bodies of requests under way",
        By("bodies_that_do_not_end_are_refused_at_the_limit_of_their_tenant"),
    ),
    (
        "messages of a batch",
        By("batches_belong_to_the_one_revision_that_has_them"),
    ),
    (
        "requests that wait",
        NeedNot("a number of requests, whose bodies are counted"),
    ),
    (
        "rates, requests under way",
        By("what_is_remembered_is_charged_to_its_tenant"),
    ),
    (
        "requests in flight of a worker that is to be replaced",
        By(
            "a_call_that_takes_long_holds_up_the_next_worker_for_drain_timeout_and_is_told_why_it_ended",
        ),
    ),
    (
        "log lines of requests that fail",
        By("failures_by_the_thousand_are_a_few_lines"),
    ),
    (
        "log lines of a server's circuits",
        By("the_log_is_told_of_a_few_and_how_many_there_were"),
    ),
    (
        "lines that wait for the audit log",
        By("what_is_lost_is_counted_where_it_is_missed"),
    ),
    ("secrets read again", NeedNot("sources are the operator's")),
    (
        "what a client says of itself",
        By("what_clients_say_of_themselves_is_bounded_for_each_and_for_all"),
    ),
    (
        "subscriptions",
        By("subscriptions_are_bounded_in_length_in_number_and_for_all"),
    ),
    (
        "sessions that have set something",
        By("what_is_set_often_takes_one_place_in_the_queue_and_the_last_of_it_is_kept"),
    ),
    (
        "sessions",
        NeedNot("each is counted; `max_sessions_per_tenant` has a test of its own"),
    ),
    (
        "configs of one session",
        NeedNot(
            "routes to plans, whose bytes are counted; the configs are counted with the session",
        ),
    ),
    (
        "configs of sessions and listeners",
        By("configs_of_sessions_are_their_tenants"),
    ),
    (
        "answers that wait for others of their round",
        By("answers_that_wait_for_others_of_their_round_are_their_tenants"),
    ),
    ("ids and progress tokens", By("ids_and_tokens_have_an_end")),
    (
        "stored configs",
        By("stored_configs_count_as_what_their_tenant_holds"),
    ),
    (
        "message from a worker",
        By("a_line_of_fifty_megabytes_fails_its_call_only"),
    ),
    (
        "messages of workers that are not whole yet",
        By("messages_that_never_end_count_too"),
    ),
    (
        "bytes that wait for a worker's stdin",
        By("what_waits_is_charged_until_the_pipe_has_it"),
    ),
    (
        "messages that wait for a client",
        By("a_stream_that_nobody_reads_loses_its_oldest"),
    ),
    (
        "answers that wait for a client",
        By("answers_that_nobody_reads_are_refused_at_the_limit"),
    ),
    (
        "notifications for many sessions",
        By("a_flood_of_changes_to_many_sessions_leaves_others_their_turn"),
    ),
    (
        "GET streams of one session",
        By("a_reader_that_goes_on_with_a_stream_ends_the_one_before"),
    ),
    (
        "calls of a session that nobody can hear of",
        By("calls_that_nobody_can_hear_of_make_room"),
    ),
    (
        "broken event streams",
        By("a_tenant_without_room_loses_what_was_kept"),
    ),
    (
        "calls that wait for a stateless client",
        NeedNot("a table of each tenant, whose own tests fill it"),
    ),
    (
        "answers that wait for a client of HTTP+SSE",
        By("answers_that_nobody_reads_are_refused_at_the_limit"),
    ),
    (
        "a client's roots",
        By("what_is_no_answer_or_too_long_is_refused"),
    ),
    (
        "sets of roots that have workers",
        By("sets_of_roots_are_bounded_and_never_mixed_up"),
    ),
    (
        "what of a server was called once",
        NeedNot("hashes of fixed size, of the operator's servers"),
    ),
    (
        "packages kept track of",
        NeedNot("command lines are the operator's"),
    ),
    (
        "files taken over from a private view",
        NeedNot("files of the tenant's own server, on its disk: what is beyond stays where it is"),
    ),
    (
        "links to authorise",
        NeedNot("a number of rows of fixed size"),
    ),
    (
        "answers of providers",
        NeedNot("providers are the operator's choice"),
    ),
    ("silence of the guardian", NeedNot("a time")),
    ("exec of a worker's program", NeedNot("a time")),
    ("a shutdown", NeedNot("a time")),
    (
        "starts at once",
        By("servers_of_one_tenant_that_never_answer_keep_no_other_from_starting"),
    ),
    (
        "requests of one session",
        By("a_session_that_hangs_all_it_may_leaves_the_others_of_its_worker_their_slots"),
    ),
    (
        "callers without sessions",
        By("callers_with_large_configs_take_their_tenants_own_memory"),
    ),
    (
        "states that stateless workers",
        NeedNot("a table of each tenant, whose own tests fill it; entries of fixed size"),
    ),
    (
        "what servers said of themselves",
        NeedNot("a table of each tenant, whose own tests fill it; counted"),
    ),
    (
        "config of a caller",
        By("a_config_that_is_too_long_is_refused_wherever_it_stands"),
    ),
    (
        "checks of callers' configs",
        By("checks_of_configs_that_take_long_keep_nobody_waiting"),
    ),
    (
        "failing keys",
        NeedNot("entries of fixed size; the tests of circuits fill it"),
    ),
    ("the log", By("a_log_whose_reader_has_gone_stops_nothing")),
    (
        "what is to be removed",
        By("a_folder_is_empty_at_once_and_its_trash_goes_later"),
    ),
    (
        "stderr kept",
        NeedNot("a ring of fixed size for each worker; `worker_io` fills it"),
    ),
    (
        "workers that have ended",
        NeedNot(
            "by its own tests: `one_tenants_workers_do_not_push_out_what_is_known_of_anothers` and a property",
        ),
    ),
    (
        "events that are remembered",
        NeedNot(
            "the list of ended workers, with other numbers: `the_bounds_hold_and_the_latest_is_there`",
        ),
    ),
    (
        "tools that filters and policy rules are held against",
        NeedNot("what a server says of itself, looked at once and cut"),
    ),
    (
        "a list that is read before a call whose arguments are set",
        By("a_list_that_cannot_be_had_refuses_the_call_in_time_and_nobody_elses"),
    ),
    (
        "different lists of a server",
        By("the_lists_that_are_looked_at_are_bounded"),
    ),
    (
        "an overview; its lists; the last day",
        By("an_overview_of_2000_workers_and_10000_tenants_stays_below_64_kib"),
    ),
    (
        "pairs of tenant and server of which rates are told apart",
        By("beyond_its_bound_a_tally_counts_for_all_together_alone"),
    ),
];

/// The text of every test there is.
pub(super) fn sources() -> String {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                text.push_str(&std::fs::read_to_string(path).expect("text"));
            }
        }
    }
    text
}

#[test]
fn every_bound_is_filled_by_a_test_or_says_why_not() {
    let text = include_str!("../../docs/architecture.md");
    let table = text.split("\n## Bounds\n").nth(1).expect("there");
    let table = table.split("\n## ").next().expect("its end");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|row| {
        row.trim_matches(['|', ' '])
            .split(" | ")
            .collect::<Vec<_>>()
    });
    let rows: Vec<_> = cells
        .filter(|cells| cells[0] != "what" && cells[0] != "---")
        .collect();
    assert!(rows.len() > 30, "{}", rows.len());
    let sources = sources();
    let mut used = std::collections::BTreeSet::new();
    for cells in &rows {
        assert_eq!(cells.len(), 3, "what happens at the bound: {cells:?}");
        // The longest that fits is the one that is meant.
        let known = ROWS.iter().filter(|(what, _)| cells[0].starts_with(what));
        let Some((what, filled)) = known.max_by_key(|(what, _)| what.len()) else {
            panic!("nobody fills `{}`", cells[0])
        };
        used.insert(*what);
        match filled {
            By(test) => assert!(
                sources.contains(&format!("fn {test}(")),
                "`{what}` is to be filled by `{test}`, which is not there"
            ),
            NeedNot(why) => assert!(!why.is_empty(), "{what}"),
        }
    }
    let stale: Vec<_> = ROWS
        .iter()
        .filter(|(what, _)| !used.contains(what))
        .map(|(what, _)| what)
        .collect();
    assert!(stale.is_empty(), "no such bounds any more: {stale:?}");
}
