//! `linkspan-server config template …`: documents for many gateways, shown before they are applied.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use linkspan_protocol::id::GatewayName;
use linkspan_server::fleet::{self, Applied, Group, NotApplied, Preview};
use linkspan_server::store::{MemberState, NewTemplate, Store, Template, TenantName};
use serde_json::{Value, json};

use super::config::{AUTHOR, LOOK, in_json, in_words, read};
use super::{DATA, Exit, ListForm, NO_USER, UNAVAILABLE, json_line, note, out, time_span};

/// What can be done about templates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All templates.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Prints a template's document.
    Get {
        /// The template.
        name: String,
        /// This revision in place of the newest.
        #[arg(long)]
        revision: Option<i64>,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Keeps a document as the next revision, and prints its number. Gateways get nothing before `apply`.
    Set(SetArgs),
    /// The revisions of a template, and the gateways that follow it.
    Status {
        /// The template.
        name: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// What differs between two revisions: by default, what the newest changes.
    Diff {
        /// The template.
        name: String,
        /// A revision; the one before TO, if not said.
        from: Option<i64>,
        /// A revision; the newest, if not said.
        to: Option<i64>,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// What the template would change for each gateway that follows it, and its fingerprint for `apply --expect`.
    Preview {
        /// The template.
        name: String,
        /// This revision in place of the newest.
        #[arg(long)]
        revision: Option<i64>,
        /// This gateway alone; may be given several times.
        #[arg(long)]
        gateway: Vec<GatewayName>,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Keeps a new revision for each gateway that follows the template, all or nothing, and has a running server send them.
    Apply(ApplyArgs),
    /// Removes a template. What gateways were given by it stays.
    Remove {
        /// The template.
        name: String,
        #[command(flatten)]
        of: Of,
    },
}

/// Whose template it is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Of {
    /// The organisation.
    #[arg(long, default_value = "default")]
    tenant: TenantName,
}

/// What is kept.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The template; it is made if there is none.
    name: String,
    /// The document, `-` for standard input.
    file: PathBuf,
    /// Gateways that carry all of these follow it; as before, if not said.
    #[arg(long, value_delimiter = ',', value_name = "TAG,TAG")]
    tags: Vec<String>,
    /// Why.
    #[arg(long, default_value = "")]
    comment: String,
    /// Only if this is the newest revision still (0: there is no such template yet).
    #[arg(long, value_name = "REVISION")]
    after: Option<i64>,
    #[command(flatten)]
    of: Of,
}

/// What is sent.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The template.
    name: String,
    /// This revision in place of the newest.
    #[arg(long)]
    revision: Option<i64>,
    /// To this gateway alone; may be given several times.
    #[arg(long)]
    gateway: Vec<GatewayName>,
    /// Only if it still is what `preview` showed.
    #[arg(long, value_name = "FINGERPRINT")]
    expect: Option<String>,
    /// Leave out who cannot get it; otherwise nobody gets it then.
    #[arg(long)]
    skip_refused: bool,
    /// Gateways at a time; it stops at the first that fails.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    wave: u16,
    /// Within which all must be well at a gateway; otherwise the document before returns by itself.
    #[arg(long, default_value = "60s", value_parser = time_span, value_name = "TIME")]
    deadline: Duration,
    /// Also in place of what somebody wrote on a router.
    #[arg(long)]
    overwrite: bool,
    /// Why.
    #[arg(long, default_value = "")]
    comment: String,
    /// Wait for the end; fails if a gateway does not keep it, or is offline for longer than the deadline and a minute.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    of: Of,
    #[command(flatten)]
    form: ListForm,
}

impl Command {
    /// The template, where it is changed or applied, and whose it is.
    pub(super) fn changes(&self) -> Option<(&str, &TenantName)> {
        match self {
            Self::Set(SetArgs { name, of, .. })
            | Self::Apply(ApplyArgs { name, of, .. })
            | Self::Remove { name, of } => Some((name, &of.tenant)),
            Self::List { .. } | Self::Get { .. } | Self::Status { .. } | Self::Diff { .. } | Self::Preview { .. } => {
                None
            }
        }
    }
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::List { of, form } => list(store, &of, form).await,
        Command::Get { name, revision, of, form } => {
            let template = find(store, &of, &name, revision).await?;
            if form.json { out(&json_line(&whole(&template))) } else { out(&template.revision.document) }
        }
        Command::Set(args) => set(store, args).await,
        Command::Status { name, of, form } => status(store, &of, &name, form).await,
        Command::Diff { name, from, to, of, form } => {
            let to = find(store, &of, &name, to).await?.revision;
            let from = match from.unwrap_or(to.number - 1) {
                0 => (0, String::new()),
                number => (number, find(store, &of, &name, Some(number)).await?.revision.document),
            };
            let names = (format!("revision {}", from.0), format!("revision {}", to.number));
            let diff = fleet::diff(&from.1, &to.document, (&names.0, &names.1));
            out(&if form.json { json_line(&json!({ "diff": diff })) } else { diff })
        }
        Command::Preview { name, revision, gateway, of, form } => {
            let group = Group::of(store, find(store, &of, &name, revision).await?).await?;
            preview(store, &group, &gateway, form).await
        }
        Command::Apply(args) => apply(store, args).await,
        Command::Remove { name, of } => {
            let tenant = super::tenant::find(store, &of.tenant).await?;
            if !store.remove_template(tenant.id, &name).await? {
                return Err(unknown(&name));
            }
            note(format_args!("template {name} is removed; what gateways were given by it stays"));
            Ok(())
        }
    }
}

fn unknown(name: &str) -> Exit {
    Exit::says(NO_USER, format_args!("there is no template {name}; `config template list` shows those there are"))
}

async fn find(store: &Store, of: &Of, name: &str, revision: Option<i64>) -> Result<Template, Exit> {
    let tenant = super::tenant::find(store, &of.tenant).await?;
    let template = store.template(tenant.id, name).await?.ok_or_else(|| unknown(name))?;
    let Some(number) = revision else { return Ok(template) };
    let found = store.template_revision(template.id, number).await?;
    let none = || Exit::says(DATA, format_args!("template {name} has no revision {number}"));
    Ok(Template { revision: found.ok_or_else(none)?, ..template })
}

async fn list(store: &Store, of: &Of, form: ListForm) -> Result<(), Exit> {
    let tenant = super::tenant::find(store, &of.tenant).await?;
    let all = store.templates(tenant.id).await?;
    if form.json {
        return out(&json_line(&all.iter().map(shown).collect()));
    }
    let line = |one: &Template| {
        let revision = &one.revision;
        format!("{:<32} revision {:<5} {}\n", one.name, revision.number, revision.tags.join(","))
    };
    out(&all.iter().map(line).collect::<String>())
}

async fn set(store: &Store, args: SetArgs) -> Result<(), Exit> {
    let SetArgs { name, file, tags, comment, after, of } = args;
    let document = read(&file)?;
    let tenant = super::tenant::find(store, &of.tenant).await?;
    let before = store.template(tenant.id, &name).await?;
    let newest = before.as_ref().map_or(0, |before| before.revision.number);
    let tags = match &before {
        Some(before) if tags.is_empty() => before.revision.tags.clone(),
        _ => fleet::tags_in_order(tags).map_err(|error| Exit::says(DATA, error))?,
    };
    if tags.is_empty() {
        return Err(Exit::says(DATA, "a new template needs --tags: gateways follow it that carry all of them"));
    }
    if !linkspan_server::store::is_label(&name) {
        return Err(Exit::says(DATA, "this cannot be the name of a template: empty, too long, or with odd characters"));
    }
    fleet::check_template(&name, &document).map_err(|error| Exit::new(DATA, error))?;
    let changed = || Exit::says(DATA, "somebody has changed the template since it was read; read it again");
    if after.is_some_and(|after| after != newest) {
        return Err(changed());
    }
    let new = NewTemplate { tags: &tags, document: &document, author: AUTHOR, comment: &comment };
    let number = match before {
        Some(before) => store.add_template_revision(before.id, newest, new).await?,
        None => store.add_template(tenant.id, &name, new).await?.then_some(1),
    };
    out(&format!("{}\n", number.ok_or_else(changed)?))
}

async fn status(store: &Store, of: &Of, name: &str, form: ListForm) -> Result<(), Exit> {
    let template = find(store, of, name, None).await?;
    let revisions = store.template_revisions(template.id, i64::MAX, 20).await?;
    let tags = template.revision.tags.join(",");
    let group = Group::of(store, template).await?;
    if form.json {
        let revision = |one: &linkspan_server::store::TemplateRevision| json!({ "number": one.number, "tags": one.tags, "author": one.author, "at": one.at.to_string(), "comment": one.comment });
        let gateways: Vec<_> = group.names().collect();
        let revisions: Vec<_> = revisions.iter().map(revision).collect();
        return out(&json_line(&json!({ "name": name, "gateways": gateways, "revisions": revisions })));
    }
    let mut text = format!("followed by {} gateways, those with the tags {tags}\n", group.len());
    for gateway in group.names() {
        text += &format!("  {gateway}\n");
    }
    for one in revisions {
        text += &format!("  {:>5}  {}  {}  {}\n", one.number, one.at, one.author, one.comment);
    }
    out(&text)
}

async fn preview(store: &Store, group: &Group, only: &[GatewayName], form: ListForm) -> Result<(), Exit> {
    if let Some(stranger) = only.iter().find(|name| !group.names().any(|known| known == *name)) {
        return Err(Exit::new(DATA, NotApplied::Stranger(stranger.clone())));
    }
    let (mut shown, mut refused) = (Vec::new(), 0);
    for name in group.names().filter(|name| only.is_empty() || only.contains(name)) {
        let Some(one) = group.preview(store, name).await? else { continue };
        refused += usize::from(one.outcome == fleet::Outcome::Refused);
        if form.json {
            shown.push(preview_in_json(&one));
        } else {
            // Each as it is made: there may be thousands.
            out(&preview_in_words(&one))?;
        }
    }
    if form.json {
        out(&json_line(&json!({ "fingerprint": group.fingerprint, "gateways": shown })))?;
    } else {
        note(format_args!("{} gateways follow it, {refused} cannot get it", group.len()));
        note(format_args!("apply exactly this with --expect {}", group.fingerprint));
    }
    Ok(())
}

async fn apply(store: &Store, args: ApplyArgs) -> Result<(), Exit> {
    let group = Group::of(store, find(store, &args.of, &args.name, args.revision).await?).await?;
    let deadline = args.deadline.clamp(Duration::from_secs(1), Duration::from_secs(3600));
    let asked = fleet::Asked {
        fingerprint: args.expect,
        only: args.gateway,
        skip_refused: args.skip_refused,
        author: AUTHOR.to_owned(),
        comment: args.comment,
        wave: args.wave,
        deadline,
        overwrite: args.overwrite,
    };
    let applied = fleet::apply_template(store, &group, &asked).await.map_err(|error| match error {
        NotApplied::Store(error) => error.into(),
        error => Exit::new(DATA, error),
    })?;
    for (name, why) in &applied.skipped {
        note(format_args!("{name} is left out: {why}"));
    }
    if args.wait { wait(store, &applied, deadline, args.form).await } else { begun(&applied, args.form) }
}

fn begun(applied: &Applied, form: ListForm) -> Result<(), Exit> {
    let rollout = format!("{:016x}", applied.rollout);
    if form.json {
        let shown = json!({ "rollout": rollout, "gateways": applied.gateways, "changed": applied.changed });
        return out(&json_line(&shown));
    }
    note(format_args!("{} gateways, {} of them with another document", applied.gateways, applied.changed));
    out(&format!("{rollout}\n"))
}

/// Waits until it is known how all gateways fared; not for ever for those that are offline.
async fn wait(store: &Store, applied: &Applied, deadline: Duration, form: ListForm) -> Result<(), Exit> {
    let mut end = Instant::now() + deadline + Duration::from_secs(60);
    let mut open = usize::MAX;
    loop {
        let members = store.rollout_members(applied.rollout).await?;
        let left = members.iter().filter(|member| !member.state.is_final()).count();
        if left < open {
            // Each that comes to its end gives the others of its wave, and the next wave, their time.
            (open, end) = (left, Instant::now() + deadline + Duration::from_secs(60));
        }
        if left == 0 || Instant::now() >= end {
            let kept = members.iter().filter(|member| member.state == MemberState::Kept).count();
            if form.json {
                out(&json_line(&members.iter().map(in_json).collect()))?;
            } else {
                members.iter().for_each(|member| note(format_args!("{}", in_words(member))));
            }
            if kept == members.len() {
                return Ok(());
            }
            return Err(Exit::says(UNAVAILABLE, format_args!("{kept} of {} gateways keep it", members.len())));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn shown(template: &Template) -> Value {
    let revision = &template.revision;
    json!({ "name": template.name, "revision": revision.number, "tags": revision.tags, "author": revision.author,
        "at": revision.at.to_string(), "comment": revision.comment })
}

fn whole(template: &Template) -> Value {
    let mut all = shown(template);
    all["document"] = template.revision.document.clone().into();
    all
}

fn preview_in_words(one: &Preview) -> String {
    let edited = if one.edited { ", edited on the router" } else { "" };
    let mut text = format!("{}: {}{edited}\n", one.gateway, one.outcome.as_str());
    for problem in &one.problems {
        text += &format!("  {problem}\n");
    }
    text += &one.diff;
    if one.cut {
        text += "… (the rest is not shown)\n";
    }
    text
}

fn preview_in_json(one: &Preview) -> Value {
    let problems: Vec<_> = one.problems.iter().map(ToString::to_string).collect();
    json!({ "gateway": one.gateway, "newest": one.newest, "outcome": one.outcome.as_str(), "edited": one.edited,
        "problems": problems, "diff": one.diff, "cut": one.cut })
}
