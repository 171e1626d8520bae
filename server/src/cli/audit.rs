//! `linkspan-server audit …`

use std::io::Write as _;
use std::net::IpAddr;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use linkspan_server::audit::view::{CSV_HEAD, RowView, csv_line, json_line};
use linkspan_server::audit::{Action, Actor, Anchor, Audit, Broken, Entry, Row, verify};
use linkspan_server::store::{AuditSearch, Store};

use super::{DATA, Exit, UNAVAILABLE, note, out};

/// Rows read at once.
const AT_ONCE: usize = 1000;

/// What can be asked of the audit.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Entries, newest first.
    List {
        #[command(flatten)]
        sought: Sought,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// As JSON, one entry a line, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Entries in the order in which they were written, as a file on standard output.
    Export {
        #[command(flatten)]
        sought: Sought,
        /// The form.
        #[arg(long, value_enum, default_value = "jsonl")]
        format: Form,
    },
    /// Follows the chain of entries and tells where it was broken first.
    Verify {
        /// Also verifies that this entry is in the chain, as `audit head` printed it, or by its hash alone; may be given
        /// several times.
        #[arg(long, value_name = "NUMBER:HASH|HASH")]
        anchor: Vec<Anchor>,
    },
    /// The last entry's number and hash. Kept elsewhere, it proves later that no entry up to it was changed.
    Head,
}

/// What is looked for.
#[derive(Debug, Args)]
pub(crate) struct Sought {
    /// From this time on: `2026-11-25T00:00:00Z`.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Who.
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// What: a whole name (`gateway.add`), or its first word (`gateway`).
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// On which gateway.
    #[arg(long, value_name = "NAME")]
    gateway: Option<String>,
    /// On which device.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// On which service of it.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// On what else, by its name: a person, a role, a grant.
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// From which address.
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// `ok`, `denied` or `failed`.
    #[arg(long, value_parser = ["ok", "denied", "failed"])]
    result: Option<String>,
}

/// The form of an export.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Form {
    /// One JSON object a line.
    Jsonl,
    /// A table, for spreadsheets.
    Csv,
}

impl From<Sought> for AuditSearch {
    fn from(sought: Sought) -> Self {
        let Sought { from, until, actor, action, gateway, device, service, target, address, result } = sought;
        let address = address.map(|address| address.to_canonical().to_string());
        Self { from, until, actor, action, gateway, device, service, target, address, result, tenant: None }
    }
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::List { sought, limit, json } => list(store, &sought.into(), limit, json).await,
        Command::Export { sought, format } => export(store, &sought.into(), format).await,
        Command::Verify { anchor } => check(store, &anchor).await,
        Command::Head => out(&format!("{}\n", store.audit_ends().await?.end)),
    }
}

async fn list(store: &Store, search: &AuditSearch, limit: usize, json: bool) -> Result<(), Exit> {
    let rows = store.search_audit(search, None, limit).await?;
    out(&rows.iter().map(|row| if json { json_line(&row.into()) } else { line(row) }).collect::<String>())
}

/// For people. No text of strangers steers the terminal: such characters were written out before they were kept.
fn line(Row { record, .. }: &Row) -> String {
    let time =
        Timestamp::from_millisecond(record.at).map_or_else(|_| record.at.to_string(), |time| format!("{time:.0}"));
    let target = record.target.as_deref().unwrap_or("-");
    let device = record.device.as_deref().filter(|device| *device != target);
    let on = device.map_or_else(|| target.to_owned(), |device| format!("{device}:{target}"));
    let from = record.address.as_deref().unwrap_or("-");
    let reason = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{time} {:<7}{:<20} {:<24} {on} ({from}){reason}\n", record.result, record.action, record.actor)
}

async fn export(store: &Store, search: &AuditSearch, format: Form) -> Result<(), Exit> {
    let audit = Audit::start(store.clone());
    let entry = Entry::new(Action::AUDIT_EXPORT, Actor::shell());
    let noted = audit.note(entry.with("sought", search.words())).await;
    audit.close().await;
    noted.map_err(|error| Exit::new(UNAVAILABLE, error))?;
    let written = |result: std::io::Result<()>| match result {
        // Whoever reads has seen enough (`… export | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Exit::new(74, error)),
        Ok(()) => Ok(true),
    };
    let line = match format {
        Form::Jsonl => json_line,
        Form::Csv => csv_line,
    };
    let mut stdout = std::io::stdout();
    if matches!(format, Form::Csv) && !written(stdout.write_all(CSV_HEAD.as_bytes()))? {
        return Ok(());
    }
    let mut after = 0;
    loop {
        let rows = store.audit_after(search, after, AT_ONCE).await?;
        let Some(last) = rows.last() else { return written(stdout.flush()).map(drop) };
        after = last.mark.seq;
        let text: String = rows.iter().map(|row| line(&RowView::from(row))).collect();
        if !written(stdout.write_all(text.as_bytes()))? {
            return Ok(());
        }
    }
}

async fn check(store: &Store, anchors: &[Anchor]) -> Result<(), Exit> {
    let whole = match verify(store, anchors).await {
        Ok(whole) => whole,
        Err(Broken::Store(error)) => return Err(error.into()),
        Err(broken) => return Err(Exit::says(DATA, format_args!("the audit was tampered with: {broken}"))),
    };
    let since =
        if whole.start.seq == 0 { String::new() } else { format!(", after {} that were too old", whole.start.seq) };
    note(format_args!("{} entries{since}; none was changed, removed or swapped. The last one:", whole.rows));
    out(&format!("{}\n", whole.end))
}
