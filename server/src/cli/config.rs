//! `linkspan-server config …`: configurations of gateways, for scripts.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use linkspan_protocol::id::GatewayName;
use linkspan_server::fleet::{self, NotStaged};
use linkspan_server::store::{Gateway, Member, MemberState, NewRevision, NewRollout, Store};
use serde_json::json;

use super::{DATA, Exit, ListForm, NO_USER, UNAVAILABLE, json_line, note, out, own, template, time_span};

/// Who stands as the author of what is done here.
pub(super) const AUTHOR: &str = "the server's shell";
/// Largest file that is read.
const FILE_MAX: u64 = 1024 * 1024;
/// Between two looks at how a gateway fares.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// What can be done about configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints a document: the newest revision, or what the gateway lives by as long as there is none.
    Get {
        /// The gateway.
        gateway: GatewayName,
        /// This revision.
        #[arg(long, conflicts_with = "running")]
        revision: Option<i64>,
        /// What the gateway lives by, as it last said.
        #[arg(long)]
        running: bool,
        #[command(flatten)]
        form: ListForm,
    },
    /// Keeps a document as the next revision, and prints its number. It is not sent before `apply`.
    Set {
        /// The gateway.
        gateway: GatewayName,
        /// The document, `-` for standard input.
        file: PathBuf,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
        /// Only if this is the newest revision still (0: none yet).
        #[arg(long, value_name = "REVISION")]
        after: Option<i64>,
    },
    /// What differs between two documents: by default, what the newest revision changes for the gateway.
    Diff {
        /// The gateway.
        gateway: GatewayName,
        /// A revision, or `running`.
        #[arg(default_value = "running")]
        from: String,
        /// A revision, or `newest`.
        #[arg(default_value = "newest")]
        to: String,
        #[command(flatten)]
        form: ListForm,
    },
    /// Has a running server send a revision to the gateway, now or when it returns.
    Apply(ApplyArgs),
    /// Keeps what the gateway lives by as the next revision, and has the gateway know it by that number.
    Adopt {
        /// The gateway.
        gateway: GatewayName,
    },
    /// How a gateway stands with its configuration, and its revisions.
    Status {
        /// The gateway.
        gateway: GatewayName,
        #[command(flatten)]
        form: ListForm,
    },
    /// Documents for many gateways.
    Template {
        #[command(subcommand)]
        command: template::Command,
    },
    /// What a gateway has for itself beside its template: tags, values, overrides.
    Own {
        #[command(subcommand)]
        command: own::Command,
    },
}

/// What is sent.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The gateway.
    pub(super) gateway: GatewayName,
    /// This revision in place of the newest.
    #[arg(long)]
    revision: Option<i64>,
    /// Within which all must be well with it; otherwise the one before returns by itself.
    #[arg(long, default_value = "60s", value_parser = time_span, value_name = "TIME")]
    deadline: Duration,
    /// Also in place of what somebody wrote on the router.
    #[arg(long)]
    overwrite: bool,
    /// Wait for the end; fails if it is not kept.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    form: ListForm,
}

impl Command {
    /// The gateway that it is about, if it is one.
    pub(super) fn gateway(&self) -> Option<&GatewayName> {
        Some(match self {
            Self::Template { .. } => return None,
            Self::Own { command } => command.gateway(),
            Self::Get { gateway, .. }
            | Self::Set { gateway, .. }
            | Self::Diff { gateway, .. }
            | Self::Apply(ApplyArgs { gateway, .. })
            | Self::Adopt { gateway }
            | Self::Status { gateway, .. } => gateway,
        })
    }
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::Get { gateway, revision, running, form } => {
            let side = match (running, revision) {
                (true, _) => "running".to_owned(),
                (false, Some(number)) => number.to_string(),
                (false, None) => "newest".to_owned(),
            };
            let (number, text) = document(store, &find(store, &gateway).await?, &side).await?;
            let shown = json!({ "revision": number, "document": text });
            out(&if form.json { json_line(&shown) } else { text })
        }
        Command::Set { gateway, file, comment, after } => {
            let gateway = find(store, &gateway).await?;
            let text = read(&file)?;
            let newest = store.revision(gateway.id, None).await?.map_or(0, |newest| newest.number);
            let new = NewRevision { document: &text, author: AUTHOR, comment: &comment, template: None };
            let number = fleet::stage(store, gateway.id, after.unwrap_or(newest), new).await.map_err(refused)?;
            for template in fleet::templates_of(store, gateway.tenant, gateway.id).await? {
                note(format_args!(
                    "{} follows the template {template}, which takes this away when it is applied; `config own overrides \
                     {}` keeps what is its own",
                    gateway.name, gateway.name
                ));
            }
            out(&format!("{number}\n"))
        }
        Command::Diff { gateway, from, to, form } => {
            let gateway = find(store, &gateway).await?;
            let one = document(store, &gateway, &from).await?.1;
            let other = document(store, &gateway, &to).await?.1;
            let diff = fleet::diff(&one, &other, (from.as_str(), to.as_str()));
            out(&if form.json { json_line(&json!({ "diff": diff })) } else { diff })
        }
        Command::Apply(args) => apply(store, args).await,
        Command::Adopt { gateway } => adopt(store, &find(store, &gateway).await?).await,
        Command::Status { gateway, form } => status(store, &find(store, &gateway).await?, form).await,
        Command::Template { command } => template::answer(store, command).await,
        Command::Own { command } => own::answer(store, command).await,
    }
}

pub(super) async fn find(store: &Store, name: &GatewayName) -> Result<Gateway, Exit> {
    let found = store.gateway(name).await?;
    found.ok_or_else(|| Exit::says(NO_USER, format_args!("there is no gateway {name}")))
}

pub(super) fn read(file: &Path) -> Result<String, Exit> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(FILE_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|opened| opened.take(FILE_MAX).read_to_string(&mut text))
    };
    let read = read.with_context(|| format!("{} cannot be read", file.display()));
    read.map(|_| text).map_err(|error| Exit { code: DATA, error })
}

/// A document, with its number: `running`, `newest`, or a revision.
async fn document(store: &Store, gateway: &Gateway, side: &str) -> Result<(Option<i64>, String), Exit> {
    let none = |what: &str| Exit::says(DATA, format_args!("{}: {what}", gateway.name));
    let number = match side {
        "running" => None,
        "newest" => store.revision(gateway.id, None).await?.map(|newest| newest.number),
        text => Some(text.parse().map_err(|_| none("write the number of a revision, `running` or `newest`"))?),
    };
    if let Some(number) = number {
        let found = store.revision(gateway.id, Some(number)).await?;
        return found
            .map(|found| (Some(number), found.document))
            .ok_or_else(|| none("there is no revision of that number"));
    }
    let report = store.config_report(gateway.id).await?;
    let text = report.and_then(|report| report.document);
    text.map(|text| (None, text)).ok_or_else(|| none(&NotStaged::Unknown.to_string()))
}

async fn apply(store: &Store, args: ApplyArgs) -> Result<(), Exit> {
    let gateway = find(store, &args.gateway).await?;
    let revision = store.revision(gateway.id, args.revision).await?;
    let revision = revision.ok_or_else(|| Exit::says(DATA, "there is no such revision; `config set` makes one"))?;
    let new = NewRollout {
        tenant: gateway.tenant,
        author: AUTHOR.to_owned(),
        comment: String::new(),
        wave: 1,
        deadline: args.deadline.clamp(Duration::from_secs(1), Duration::from_secs(3600)),
        overwrite: args.overwrite,
        members: vec![(gateway.id, revision.number)],
    };
    let rollout = store.begin_rollout(&new).await?;
    let member = if args.wait { wait(store, rollout, new.deadline).await? } else { first(store, rollout).await? };
    if args.form.json {
        out(&json_line(&in_json(&member)))?;
    } else {
        note(format_args!("{}", in_words(&member)));
    }
    match (args.wait, member.state) {
        (false, _) | (true, MemberState::Kept) => Ok(()),
        (true, _) => Err(Exit::says(UNAVAILABLE, format_args!("revision {} is not kept", revision.number))),
    }
}

async fn first(store: &Store, rollout: i64) -> Result<Member, Exit> {
    let first = store.rollout_members(rollout).await?.into_iter().next();
    first.ok_or_else(|| Exit::says(UNAVAILABLE, "the gateway was removed meanwhile"))
}

/// Waits until it is known how the gateway fared; not for ever for one that is offline.
async fn wait(store: &Store, rollout: i64, deadline: Duration) -> Result<Member, Exit> {
    let end = Instant::now() + deadline + Duration::from_secs(60);
    loop {
        let member = first(store, rollout).await?;
        if member.state.is_final() || Instant::now() >= end {
            return Ok(member);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn adopt(store: &Store, gateway: &Gateway) -> Result<(), Exit> {
    let (_, text) = document(store, gateway, "running").await?;
    let newest = store.revision(gateway.id, None).await?.map_or(0, |newest| newest.number);
    let comment = "adopted from the router";
    let new = NewRevision { document: &text, author: AUTHOR, comment, template: None };
    let number = fleet::stage(store, gateway.id, newest, new).await.map_err(refused)?;
    fleet::apply(store, gateway.tenant, (gateway.id, number), (AUTHOR, comment)).await?;
    out(&format!("{number}\n"))
}

async fn status(store: &Store, gateway: &Gateway, form: ListForm) -> Result<(), Exit> {
    let report = store.config_report(gateway.id).await?;
    let revisions = store.revisions(gateway.id, i64::MAX, 20).await?;
    let last = store.last_member(gateway.id).await?;
    if form.json {
        let running = report.map(|report| {
            json!({ "revision": report.revision, "sha256": report.sha256, "edited": report.edited,
                "own_only": report.own_only, "at": report.at.to_string() })
        });
        let revision = |one: &linkspan_server::store::Revision| json!({ "number": one.number, "author": one.author, "at": one.at.to_string(), "comment": one.comment, "template": one.template.as_ref().map(|(name, revision)| json!({ "name": name, "revision": revision })) });
        let revisions: Vec<_> = revisions.iter().map(revision).collect();
        let shown = json!({ "running": running, "last": last.as_ref().map(in_json), "revisions": revisions });
        return out(&json_line(&shown));
    }
    let mut text = match report {
        None => "it has not told its configuration yet\n".to_owned(),
        Some(report) if report.edited => format!("edited on the router, {}\n", report.at),
        Some(report) if report.own_only => format!("the router's own file alone ([policy]), {}\n", report.at),
        Some(report) => match report.revision {
            Some(number) => format!("lives by revision {number}, {}\n", report.at),
            None => format!("lives by the router's own file, {}\n", report.at),
        },
    };
    if let Some(last) = last {
        text += &format!("{}\n", in_words(&last));
    }
    for one in revisions {
        text += &format!("  {:>5}  {}  {}  {}\n", one.number, one.at, one.author, one.comment);
    }
    out(&text)
}

pub(super) fn in_words(member: &Member) -> String {
    let state = format!("revision {} for {}: {}", member.revision, member.name, member.state.as_str());
    match (&member.failed_check, &member.detail) {
        (Some(check), Some(detail)) => format!("{state} ({check}): {detail}"),
        (_, Some(detail)) => format!("{state}: {detail}"),
        _ => state,
    }
}

pub(super) fn in_json(member: &Member) -> serde_json::Value {
    json!({ "gateway": member.name, "revision": member.revision, "rollout": format!("{:016x}", member.rollout),
        "state": member.state.as_str(), "check": member.failed_check, "detail": member.detail,
        "at": member.at.to_string() })
}

fn refused(error: NotStaged) -> Exit {
    match error {
        NotStaged::Store(error) => error.into(),
        error => Exit::new(DATA, error),
    }
}
