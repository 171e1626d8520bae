//! `linkspan-server visit …`

use clap::Subcommand;
use jiff::Timestamp;
use linkspan_server::rights::VisitId;
use linkspan_server::store::{Store, Visit};

use super::rights::Of;
use super::user::BY;
use super::{Exit, ListForm, NO_USER, json_line, note, out, tenant};

/// What can be done about visits. Inviting and approving is for people: the API does that.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All visits, newest first.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Ends a visit; what was opened with it ends within two seconds.
    Revoke {
        /// Its identity, as `visit list` shows it.
        id: VisitId,
        #[command(flatten)]
        of: Of,
    },
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::List { of, form } => {
            let of = tenant::find(store, of.name()).await?;
            list(&store.visits(of.id, None).await?, form)
        }
        Command::Revoke { id, of } => {
            let of = tenant::find(store, of.name()).await?;
            let visit = store.visit(of.id, id).await?;
            visit.ok_or_else(|| Exit::says(NO_USER, format_args!("there is no visit {id}")))?;
            let ended = store.revoke_visit(id, BY).await?;
            note(format_args!("visit {id} {}", if ended { "has ended" } else { "had ended before" }));
            Ok(())
        }
    }
}

fn list(visits: &[Visit], form: ListForm) -> Result<(), Exit> {
    let now = Timestamp::now();
    if form.json {
        let all = visits.iter().map(|visit| {
            serde_json::json!({
                "id": visit.id,
                "state": visit.state(now),
                "guest": visit.guest,
                "host": visit.host_name,
                "device": visit.device,
                "to": to(visit),
                "view_only": visit.view_only,
                "reason": visit.reason,
                "from": visit.begins.to_string(),
                "until": visit.ends.to_string(),
                "uses": visit.uses,
                "uses_max": visit.uses_max,
            })
        });
        return out(&json_line(&all.collect()));
    }
    let line = |visit: &Visit| {
        let device = format!("{}:{}", visit.device, to(visit));
        let until = visit.ends.strftime("%F %H:%MZ");
        format!(
            "{}  {:<8} until {until}  {device:<24} {} for {}\n",
            visit.id,
            visit.state(now),
            visit.host_name,
            visit.guest
        )
    };
    out(&visits.iter().map(line).collect::<String>())
}

/// The service, or the kind of services.
fn to(visit: &Visit) -> &str {
    match (&visit.service, visit.speaks) {
        (Some(service), _) => service.as_str(),
        (None, Some(kind)) => kind.as_str(),
        (None, None) => "",
    }
}
