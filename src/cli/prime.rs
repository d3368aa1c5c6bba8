//! `stdiopool prime`: what workers of Python packages are forked from, and which processes wait to become some of node packages.

use clap::Args;

use super::client::AdminArgs;
use super::output;
use super::table::{self, Align};
use crate::admin::{BarredRow, PrimedStarts, TemplateRow};
use crate::counted::counted;
use crate::ids::ServerName;

/// Shows which Python and node packages are imported ahead, what of them is not, and why
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
When a worker of a version has started, a process is started that imports its libraries: the next workers are forked from it (Python), or
it becomes the next worker (node).

Examples:
  stdiopool prime
  stdiopool prime time
  stdiopool prime --json | jq '.templates[].left_out'")]
pub struct PrimeArgs {
    /// Of this server, with each module that is left out
    pub server: Option<String>,
    /// Print what the admin API says, as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the admin API is.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl PrimeArgs {
    /// Asks and prints.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn run(self) -> Result<(), miette::Report> {
        let client = self.admin.client().await?;
        let mut told: PrimedStarts = client.get("api/v1/templates").await?;
        if let Some(server) = &self.server {
            let server = ServerName::new(server.as_str());
            told.templates.retain(|row| row.server == server);
            told.unprimed.retain(|name, _| *name == server);
        }
        // Nothing comes after it, so it does not matter whether anybody read to the end.
        if self.json {
            let text = serde_json::to_string_pretty(&told).unwrap_or_default();
            let _is_read = output::print_json(&format!("{text}\n"))?;
            return Ok(());
        }
        if told.templates.is_empty() {
            output::notice(
                "no templates now; one is started when a worker of a Python or node package has started whose server has `prime = \"auto\"`",
            );
        }
        let _is_read = output::print(&render(&told, self.server.is_some()))?;
        Ok(())
    }
}

fn render(told: &PrimedStarts, is_long: bool) -> String {
    let mut text = String::new();
    if !told.templates.is_empty() {
        text.push_str(&render_templates(&told.templates));
    }
    for row in told.templates.iter().filter(|_| is_long) {
        for (module, why) in &row.left_out {
            text.push_str(&format!("  {module}: {why}\n"));
        }
    }
    for (server, why) in &told.unprimed {
        text.push_str(&format!("{server}: not primed: {why}\n"));
    }
    for BarredRow {
        entry,
        program,
        why,
    } in &told.barred
    {
        text.push_str(&format!("{entry} ({program}): not primed: {why}\n"));
    }
    crate::escape::for_terminal(&text).into_owned()
}

fn render_templates(rows: &[TemplateRow]) -> String {
    let columns = [
        ("SERVER", Align::Left),
        ("PROGRAM", Align::Left),
        ("STATE", Align::Left),
        ("STARTS", Align::Right),
        ("MEMORY", Align::Right),
        ("IMPORTS", Align::Right),
        ("MODULES", Align::Left),
    ];
    let cells = |row: &TemplateRow| {
        [
            row.server.to_string(),
            row.program.clone(),
            row.state.clone(),
            row.forked.to_string(),
            table::size(row.memory_bytes),
            format!("{} ms", row.imports_ms),
            format!(
                "{} ahead, {} left out",
                counted(row.modules.len(), "module"),
                row.left_out.len()
            ),
        ]
    };
    let rows: Vec<_> = rows.iter().map(cells).collect();
    table::render(columns, &rows)
}
