//! Whether folders are there, or can be made, that a config names.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::finding::{Finding, Weight};
use crate::config::template::{Piece, Reference, Template};
use crate::config::{Config, Server};
use crate::ids::ServerName;

/// Tenants that are named in one message.
const MOST_NAMED: usize = 3;

/// Why there can be no state in the folder for it.
pub(super) fn state(config: &Config) -> Option<String> {
    // One command that is hosted without a file has a folder of its own each time.
    if config.only_server.is_some() {
        return None;
    }
    let dir = &config.state.dir;
    let why = unusable(dir)?;
    Some(format!(
        "the state folder {} (`state.dir`) cannot be used: {why}",
        dir.display()
    ))
}

/// Why a folder can neither be written into nor be made.
fn unusable(dir: &Path) -> Option<String> {
    let there = dir.ancestors().find(|folder| folder.exists())?;
    let shown = there.display();
    if !there.is_dir() {
        return Some(format!("{shown} is no folder; choose another"));
    }
    let modes = AccessFlags::W_OK | AccessFlags::X_OK;
    let error = access(there, modes).err()?;
    Some(format!(
        "{shown} cannot be written by this user ({}); choose another, or mend its permissions",
        error.desc()
    ))
}

/// Folders in which a server is to run, or that it is told of, and that are not there.
pub(super) fn of_server(config: &Config, name: &ServerName, server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(why) = server.cwd.as_ref().and_then(|cwd| missing(config, cwd)) {
        let why = format!("`servers.{name}.cwd`: {why}; create it, or change `cwd`");
        let key = ["servers", name.as_str(), "cwd"];
        findings.push(Finding::new(Weight::Failing, key, why));
    }
    for root in &server.roots {
        // A URI is not looked at.
        let begin = root.pieces().first();
        let is_uri = matches!(begin, Some(Piece::Literal(text)) if text.contains("://"));
        if let Some(why) = missing(config, root).filter(|_| !is_uri) {
            let why = format!("`servers.{name}.roots`: {why}, and the server is told of it");
            let key = ["servers", name.as_str(), "roots"];
            findings.push(Finding::new(Weight::Odd, key, why));
        }
    }
    findings
}

/// Why there is no folder by a template: of nobody, or not of some tenants. `None` where that is known at a start only.
fn missing(config: &Config, template: &Template) -> Option<String> {
    let folder = |text: &str| config.base_dir.join(text);
    let is_missing = |folder: &PathBuf| !folder.is_dir();
    if let Some(text) = template.as_literal() {
        let folder = Some(folder(text)).filter(is_missing)?;
        return Some(match folder.exists() {
            true => format!("there is a file at {}, and no folder", folder.display()),
            false => format!("there is no folder {}", folder.display()),
        });
    }
    // What every one of them is in.
    if let Some(Piece::Literal(begin)) = template.pieces().first()
        && let Some((parent, _)) = begin.rsplit_once('/')
        && !parent.is_empty()
        && let Some(folder) = Some(folder(parent)).filter(is_missing)
    {
        return Some(format!(
            "there is no folder {}, in which all of them are",
            folder.display()
        ));
    }
    if !template.references().all(|it| *it == Reference::TenantId) {
        return None;
    }
    let of_tenant = |tenant: &str| -> String {
        let pieces = template.pieces().iter();
        let texts = pieces.map(|piece| match piece {
            Piece::Literal(text) => text.as_str(),
            Piece::Value { .. } => tenant,
        });
        texts.collect()
    };
    let folders = config.tenants.keys();
    let folders = folders.map(|tenant| folder(&of_tenant(tenant.as_str())));
    let missing: Vec<_> = folders.filter(is_missing).collect();
    let named = missing.iter().take(MOST_NAMED);
    let mut named: Vec<_> = named.map(|folder| folder.display().to_string()).collect();
    if missing.len() > MOST_NAMED {
        named.push(format!("and {} more", missing.len() - MOST_NAMED));
    }
    (!named.is_empty()).then(|| format!("there is no folder {}", named.join(", ")))
}
