//! First calls of many tenants at once, whose servers are started ordinarily and primed.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Result;
use super::cold_start::millis_since;
use super::connection::Connection;
use super::latency::percentile;
use super::launch::{LINES, Pool};
use super::process::is_on_path;
use super::report::{Cell, Column, Section, Table};
use super::served::Config;

/// How long the last of them may wait.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the starts were, and how long each tenant waited for its first answer, in ms, the shortest first.
struct FirstAnswers {
    name: &'static str,
    millis: Vec<f64>,
    /// Until all had been answered, in ms.
    all: f64,
}

/// Has `tenants` new tenants call each line at once, with `prime = "off"` and with "auto".
///
/// # Errors
/// If no line has the word `only` in it.
pub(crate) fn run(tenants: usize, only: &str) -> Result<Section> {
    let mut section = Section::new(
        "first calls",
        format!("first calls of {tenants} tenants at once"),
    );
    section.note("from the request until `initialize` is answered by a worker of the tenant's own; the package is installed, and where starts are primed its template is ready");
    let mut table = Table::new(
        "",
        [
            Column::text("line"),
            Column::text("started"),
            Column::number("p50", "ms", 0),
            Column::number("p99", "ms", 0),
            Column::number("p99, of ordinary starts", "", 2),
            Column::number("all", "ms", 0),
        ],
    );
    let is_meant = |line: &&[&str]| line.iter().any(|word| word.contains(only));
    let lines: Vec<_> = LINES.into_iter().filter(is_meant).collect();
    if lines.is_empty() {
        return Err(format!("no line has `{only}` in it").into());
    }
    for line in lines {
        let name = line[..line.len().min(3)].join(" ");
        if !is_on_path(line[0]) {
            section.note(format!("`{name}`: `{}` is not on PATH", line[0]));
            continue;
        }
        match compare(line, tenants) {
            Ok(both) => {
                let ordinary = percentile(&both[0].millis, 99.0);
                for answers in &both {
                    let p99 = percentile(&answers.millis, 99.0);
                    let row: [Cell; 6] = [
                        name.clone().into(),
                        answers.name.into(),
                        percentile(&answers.millis, 50.0).into(),
                        p99.into(),
                        (p99 / ordinary).into(),
                        answers.all.into(),
                    ];
                    table.row(row);
                }
            }
            Err(error) => section.failures.push(format!("`{name}`: {error}")),
        }
    }
    section.tables.push(table);
    Ok(section)
}

#[tokio::main]
async fn compare(line: &[&str], tenants: usize) -> Result<[FirstAnswers; 2]> {
    Ok([
        first_answers(line, tenants, "off").await?,
        first_answers(line, tenants, "auto").await?,
    ])
}

async fn first_answers(line: &[&str], tenants: usize, prime: &str) -> Result<FirstAnswers> {
    let patience = PATIENCE.as_secs();
    // The first tenant has the package installed, and is not measured.
    let config = Config {
        pool: format!(
            "catalog_age = \"never\"\nmax_workers = {}\nqueue_timeout = \"{patience}s\"\n",
            tenants + 1
        ),
        server: format!("start_timeout = \"{patience}s\"\n"),
        tenants: tenants + 1,
    };
    let pool = Pool::serve_with(line, "auto", prime, config)?;
    pool.until_installed().await?;
    if prime != "off" {
        pool.until_primed().await?;
    }
    let mut connections = vec![];
    for tenant in 1..=tenants {
        connections.push(Connection::open(&pool.endpoint(tenant)).await?);
    }
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for mut connection in connections {
        calls.spawn(async move {
            let begun = std::time::Instant::now();
            let answered = connection.initialize().await;
            // The session is open until the others have been answered too.
            answered.map(|()| (connection, millis_since(begun)))
        });
    }
    let mut answered = vec![];
    while let Some(call) = calls.join_next().await {
        answered.push(call??);
    }
    let all = begun.elapsed().as_secs_f64() * 1e3;
    let mut millis: Vec<_> = answered.iter().map(|(_, millis)| *millis).collect();
    millis.sort_by(f64::total_cmp);
    Ok(FirstAnswers {
        name: match prime {
            "off" => "prime = \"off\"",
            _ => "prime = \"auto\"",
        },
        millis,
        all,
    })
}
