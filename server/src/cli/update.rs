//! `linkspan-server update …`: other versions of the gateways' program, for scripts.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use linkspan_config::release::{HEAD_MAX, Head, PROGRAM_MAX, Version};
use linkspan_protocol::id::GatewayName;
use linkspan_server::rights::GatewayId;
use linkspan_server::store::{NewUpdate, Program, Store, Update, Updated};
use linkspan_server::updates::{NotAdded, Programs, RATE, RATES};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::{DATA, Exit, ListForm, NO_USER, UNAVAILABLE, json_line, note, out, time_span};

/// Who stands as the author of what is done here.
const AUTHOR: &str = "the server's shell";
/// Between two looks at how an update fares.
const LOOK: Duration = Duration::from_millis(200);

/// What can be done about other versions.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prints the head of a program, to be signed where the key is: `signify -S -s KEY -m HEAD`.
    Head {
        /// The program.
        file: PathBuf,
        /// Its version.
        #[arg(value_name = "VERSION")]
        release: Version,
        /// What it was built for, as Rust calls it: `mipsel-unknown-linux-musl`.
        target: String,
        /// Gateways of a later version may become it too.
        #[arg(long)]
        older: bool,
    },
    /// Keeps a signed program: signature, head, an empty line and the program, in one file (`-`: standard input).
    Add {
        /// The file.
        bundle: PathBuf,
    },
    /// The programs that are kept.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// Removes a program.
    Remove {
        /// Its version.
        #[arg(value_name = "VERSION")]
        release: Version,
        /// What it was built for.
        target: String,
    },
    /// Has a running server make gateways another version, some at a time. Prints the update's id.
    Begin(BeginArgs),
    /// How the gateways of an update fare, or the last updates.
    Status {
        /// The update.
        update: Option<String>,
        #[command(flatten)]
        form: ListForm,
    },
    /// Stops an update: nobody begins it any more.
    Stop {
        /// The update.
        update: String,
    },
}

/// What an update is to be like.
#[derive(Debug, Args)]
pub(crate) struct BeginArgs {
    /// The version.
    #[arg(value_name = "VERSION")]
    pub(crate) release: Version,
    /// The gateways, in their order.
    #[arg(required = true)]
    gateways: Vec<GatewayName>,
    /// Gateways at a time; it stops at the first that fails.
    #[arg(long, default_value_t = 1)]
    wave: u16,
    /// Kilobytes per second to each.
    #[arg(long, value_name = "KB", default_value_t = RATE / 1024, value_parser = clap::value_parser!(u32).range(1..=16384))]
    rate: u32,
    /// Within which the new program must have a link.
    #[arg(long, default_value = "120s", value_parser = time_span)]
    deadline: Duration,
    /// Waits until it is over, and fails if it was stopped.
    #[arg(long)]
    wait: bool,
}

pub(super) async fn answer(programs: Programs, store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        command @ Command::Head { .. } => head_alone(command),
        Command::Add { bundle } => {
            let added = programs.add(&read(&bundle)?, AUTHOR).await.map_err(refused)?;
            note(format_args!("version {} for {} is kept", added.version, added.target));
            Ok(())
        }
        Command::List { form } => list(&store.programs().await?, form),
        Command::Remove { release, target } => {
            let found = store.program(&release.to_string(), &target).await?;
            let found = found.ok_or_else(|| Exit::says(DATA, "there is no such program; `update list` names them"))?;
            programs.remove(&found).await?;
            Ok(())
        }
        Command::Begin(args) => begin(store, args).await,
        Command::Status { update, form } => status(store, update.as_deref(), form).await,
        Command::Stop { update } => {
            let update = find(store, &update).await?;
            store.end_update(update.id, Some("stopped at the server's shell")).await?;
            Ok(())
        }
    }
}

/// What needs neither configuration nor database: it is asked for where the key is, which is not at the server.
pub(super) fn head_alone(command: Command) -> Result<(), Exit> {
    let Command::Head { file, release, target, older } = command else { return Ok(()) };
    head(&file, release, target, older)
}

fn head(file: &Path, version: Version, target: String, older: bool) -> Result<(), Exit> {
    let program = read(file)?;
    let sha256 = digest(&SHA256, &program).as_ref().try_into().map_err(|error| Exit::new(DATA, error))?;
    let head = Head { version, target, size: program.len() as u64, sha256, older };
    head.check().map_err(|error| Exit::new(DATA, error))?;
    out(&head.text())
}

fn read(file: &Path) -> Result<Vec<u8>, Exit> {
    let most = PROGRAM_MAX + HEAD_MAX as u64;
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(most + 1).read_to_end(&mut bytes))
    };
    let read = read.with_context(|| format!("{} cannot be read", file.display()));
    read.map_err(|error| Exit { code: DATA, error })?;
    if bytes.len() as u64 > most {
        return Err(Exit::says(DATA, format_args!("{} is larger than a program may be", file.display())));
    }
    Ok(bytes)
}

fn list(programs: &[Program], form: ListForm) -> Result<(), Exit> {
    if form.json {
        let one = |program: &Program| {
            json!({ "version": program.version, "target": program.target, "size": program.size,
                "sha256": program.sha256, "author": program.author, "at": program.at.to_string() })
        };
        return out(&json_line(&programs.iter().map(one).collect()));
    }
    let line = |program: &Program| {
        let Program { version, target, size, at, author, .. } = program;
        format!("{version:<12} {target:<34} {size:>9}  {at}  {author}\n")
    };
    out(&programs.iter().map(line).collect::<String>())
}

async fn begin(store: &Store, args: BeginArgs) -> Result<(), Exit> {
    let version = args.release.to_string();
    if !store.programs().await?.iter().any(|program| program.version == version) {
        return Err(Exit::says(DATA, format_args!("there is no program of version {version}; `update add` keeps one")));
    }
    let all = store.gateways().await?;
    let (mut members, mut tenant): (Vec<GatewayId>, _) = (Vec::new(), None);
    for name in &args.gateways {
        let found = all.iter().find(|gateway| gateway.name == *name);
        let found = found.ok_or_else(|| Exit::says(NO_USER, format_args!("there is no gateway {name}")))?;
        if members.contains(&found.id) || tenant.is_some_and(|tenant| tenant != found.tenant) {
            return Err(Exit::says(
                DATA,
                format_args!("{name} stands there twice, or belongs to another organisation"),
            ));
        }
        tenant = Some(found.tenant);
        members.push(found.id);
    }
    let tenant = tenant.ok_or_else(|| Exit::says(DATA, "an update has at least one gateway"))?;
    let new = NewUpdate {
        tenant,
        author: AUTHOR.to_owned(),
        comment: String::new(),
        version,
        wave: args.wave.max(1).into(),
        rate: (args.rate * 1024).clamp(*RATES.start(), *RATES.end()),
        deadline: args.deadline.clamp(Duration::from_secs(5), Duration::from_secs(3600)),
        members,
    };
    let id = store.begin_update(&new).await?;
    out(&format!("{}\n", hex(id)))?;
    if args.wait { wait(store, id).await } else { Ok(()) }
}

/// Waits for the end; whoever is offline is not waited for by an update either.
async fn wait(store: &Store, id: i64) -> Result<(), Exit> {
    let (mut told, mut since) = (String::new(), Instant::now());
    loop {
        let update = find(store, &hex(id)).await?;
        if update.state == "done" {
            return Ok(());
        }
        if update.state == "stopped" {
            let reason = update.reason.unwrap_or_default();
            for member in store.update_members(id).await?.iter().filter(|member| member.detail.is_some()) {
                note(format_args!("{}", in_words(member)));
            }
            return Err(Exit::says(UNAVAILABLE, format_args!("the update was stopped: {reason}")));
        }
        let now: String = store.update_members(id).await?.iter().map(in_words).collect();
        if now != told {
            (told, since) = (now, Instant::now());
        }
        if since.elapsed() > Duration::from_secs(3700) {
            return Err(Exit::says(UNAVAILABLE, "nothing has moved for an hour; `update status` tells how it stands"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn status(store: &Store, update: Option<&str>, form: ListForm) -> Result<(), Exit> {
    let Some(update) = update else {
        let all = store.updates(None, 20).await?;
        if form.json {
            return out(&json_line(&all.iter().map(|one| shown(one, &[])).collect()));
        }
        let line = |one: &Update| {
            format!("{}  {:<12} {:<8} {}  {}\n", hex(one.id), one.version, one.state, one.at, one.author)
        };
        return out(&all.iter().map(line).collect::<String>());
    };
    let update = find(store, update).await?;
    let members = store.update_members(update.id).await?;
    if form.json {
        return out(&json_line(&shown(&update, &members)));
    }
    let reason = update.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    let mut text = format!("version {}: {}{reason}\n", update.version, update.state);
    for member in &members {
        text += &format!("  {}\n", in_words(member));
    }
    out(&text)
}

fn shown(update: &Update, members: &[Updated]) -> Value {
    let member = |one: &Updated| {
        json!({ "gateway": one.name, "state": one.state.as_str(), "loaded": one.loaded, "size": one.size,
            "attempts": one.attempts, "check": one.failed_check, "detail": one.detail, "at": one.at.to_string() })
    };
    json!({ "id": hex(update.id), "version": update.version, "state": update.state, "reason": update.reason,
        "wave": update.wave, "rate": update.rate, "deadline_s": update.deadline.as_secs(), "at": update.at.to_string(),
        "members": members.iter().map(member).collect::<Vec<_>>() })
}

fn in_words(member: &Updated) -> String {
    let mut text = format!("{}: {}", member.name, member.state.as_str());
    if member.size > 0 {
        text += &format!(", {} of {} bytes are there", member.loaded, member.size);
    }
    match (&member.failed_check, &member.detail) {
        (Some(check), Some(detail)) => text + &format!(" ({check}): {detail}"),
        (_, Some(detail)) => text + &format!(": {detail}"),
        _ => text,
    }
}

async fn find(store: &Store, id: &str) -> Result<Update, Exit> {
    let none = || Exit::says(DATA, "there is no such update; `update status` names them");
    let number = i64::from_str_radix(id, 16).map_err(|_| none())?;
    store.update(number).await?.ok_or_else(none)
}

fn hex(id: i64) -> String {
    format!("{id:016x}")
}

fn refused(error: NotAdded) -> Exit {
    match error {
        NotAdded::Store(error) => error.into(),
        error @ NotAdded::Write(_) => Exit::new(UNAVAILABLE, error),
        error => Exit::new(DATA, error),
    }
}
