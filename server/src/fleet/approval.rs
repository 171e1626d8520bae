//! What was found on a LAN and is approved: it becomes configuration, and only then can be reached.

use linkspan_protocol::discovery::suggest;

use super::{NewDevice, NewService, NotStaged, apply, stage_device};
use crate::store::{Found, FoundState, Store};

/// By what the gateway finds it again: its Ethernet address, wherever it is; else its address. None if it has neither now.
pub fn host_of(found: &Found) -> Option<String> {
    let key = &found.report.key;
    if key.starts_with("mac:") { Some(key.clone()) } else { found.report.addresses.first().cloned() }
}

/// The services that it could be published with.
pub fn suggested(found: &Found) -> Vec<NewService> {
    let all = suggest(&found.report.services).into_iter();
    let named = all.filter_map(|one| Some(NewService { name: one.name.parse().ok()?, kind: one.kind, port: one.port }));
    named.collect()
}

/// Keeps a revision with the device and sends it on its way: its number, and the rollout's.
///
/// # Errors
/// [`NotStaged`].
pub async fn approve(store: &Store, found: &Found, device: &NewDevice, author: &str) -> Result<(i64, i64), NotStaged> {
    if let Some(other) = store.device(&device.name).await?
        && (other.gateway != found.gateway || found.device.as_ref() != Some(&device.name))
    {
        return Err(NotStaged::NameTaken);
    }
    let comment = format!("{} was found and approved", device.name);
    let words = (author, comment.as_str());
    let revision = stage_device(store, (found.tenant, found.gateway), device, words).await?;
    let rollout = apply(store, found.tenant, (found.gateway, revision), words).await?;
    store.decide_found(found.id, FoundState::Approved, Some(&device.name)).await?;
    Ok((revision, rollout))
}
