//! `POST /api/v1/discovered/{found}/approve`: what was found becomes configuration, and only then can be reached.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use linkspan_protocol::discovery::suggest;
use linkspan_protocol::id::DeviceName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::found::{ServiceWanted, entry, theirs};
use super::rights::speaks_from;
use super::signed::{From, Signed};
use super::{ConsoleState, Named, Problem, Strict};
use crate::access::Permission;
use crate::audit::Action;
use crate::fleet::{self, NewDevice, NewService, NotStaged};
use crate::store::Found;

/// Bounds of gateway.toml.
const DESCRIPTION_MAX: usize = 255;
const TAGS_MAX: usize = 32;
const TAG_MAX: usize = 64;
const SERVICES_MAX: usize = 64;

/// A device as it is to be published.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApprovalSent {
    /// Unique on the server; its address for people.
    #[schema(value_type = String)]
    name: DeviceName,
    /// For people.
    #[serde(default)]
    description: String,
    /// Words to group devices by.
    #[serde(default)]
    tags: Vec<String>,
    /// What can be reached on it; what is suggested, if absent.
    #[serde(default)]
    services: Option<Vec<ServiceWanted>>,
}

/// What comes of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Approved {
    /// The device's name.
    device: String,
    /// Where the gateway finds it.
    host: String,
    /// The revision of the gateway's configuration that has it.
    revision: i64,
    /// The rollout by which the gateway gets that.
    rollout: i64,
}

/// Publishes a device: it becomes part of the gateway's configuration, which is sent at once, or when the gateway is here.
#[utoipa::path(post, path = "/api/v1/discovered/{found}/approve", params(("found" = String, Path)),
    request_body = ApprovalSent, responses((status = 202, body = Approved)))]
pub(super) async fn approve(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<i64>,
    Strict(sent): Strict<ApprovalSent>,
) -> Result<(StatusCode, Json<Approved>), Problem> {
    let (Signed(who), From(origin)) = by;
    let found = theirs(&state, &who, id, Permission::DeviceEdit).await?;
    let device = device(&found, sent)?;
    let (revision, rollout) = fleet::approve(&state.store, &found, &device, &who.name).await.map_err(not_staged)?;
    let services: Vec<_> = device.services.iter().map(|one| format!("{}:{}", one.name, one.port)).collect();
    let entry = entry(Action::DISCOVERED_APPROVE, &who, &found).from(&origin);
    let entry = entry.with("device", device.name.to_string()).with("host", device.host.clone());
    state.audit.note(entry.with("services", services.join(", ")).with("revision", revision)).await?;
    let approved = Approved { device: device.name.to_string(), host: device.host, revision, rollout };
    Ok((StatusCode::ACCEPTED, Json(approved)))
}

fn device(found: &Found, sent: ApprovalSent) -> Result<NewDevice, Problem> {
    let plain = |text: &str, max: usize| text.len() <= max && !text.chars().any(char::is_control);
    if !plain(&sent.description, DESCRIPTION_MAX) {
        return Err(Problem::unprocessable("A description is one line of at most 255 bytes."));
    }
    if sent.tags.len() > TAGS_MAX || !sent.tags.iter().all(|tag| !tag.is_empty() && plain(tag, TAG_MAX)) {
        return Err(Problem::unprocessable("A device has at most 32 tags of at most 64 bytes."));
    }
    let wanted = sent.services.unwrap_or_else(|| {
        let suggested = suggest(&found.report.services).into_iter();
        suggested.map(|one| ServiceWanted { name: one.name, kind: one.kind.as_str().into(), port: one.port }).collect()
    });
    if wanted.is_empty() || wanted.len() > SERVICES_MAX {
        return Err(Problem::unprocessable("Say which services are published: from 1 to 64 of them."));
    }
    let mut services: Vec<NewService> = Vec::new();
    for one in wanted {
        let name = one.name.parse().map_err(|error| Problem::unprocessable(format!("A service's name: {error}.")))?;
        let kind = speaks_from(&one.kind)
            .ok_or_else(|| Problem::unprocessable("A service is of kind http, https, ssh, vnc, rdp or tcp."))?;
        if one.port == 0 || services.iter().any(|other| other.name == name) {
            return Err(Problem::unprocessable("Each service has a port and a name of its own."));
        }
        services.push(NewService { name, kind, port: one.port });
    }
    let host = fleet::host_of(found).ok_or_else(|| Problem::conflict("The device has no address now."))?;
    Ok(NewDevice { name: sent.name, description: sent.description, tags: sent.tags, host, services })
}

fn not_staged(error: NotStaged) -> Problem {
    match error {
        NotStaged::Problems(problems) => Problem::unprocessable(format!("The gateway would not take it:\n{problems}")),
        NotStaged::Store(error) => error.into(),
        other => {
            let mut text = other.to_string();
            text.push('.');
            Problem::conflict(text)
        }
    }
}
