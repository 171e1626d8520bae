//! Templates: which gateways follow one, and what each of them would live by, shown before anything is applied.

mod apply;
mod desired;
mod merge;
mod places;
mod text;

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use linkspan_config::{Problem, Problems, Severity, place};
use linkspan_protocol::id::{DeviceName, GatewayName};
use ring::digest::{Context, SHA256};

pub use self::apply::{Applied, Asked, NotApplied, apply_template};
pub use self::text::{Value, Values};

use self::desired::Parts;
use self::text::{VALUES_MAX, check_value};
use super::{NotStaged, diff, sha256};
use crate::rights::{GatewayId, TenantId};
use crate::store::{OwnPart, Standing, Store, StoreError, Template};

/// Tags of a gateway, and of a template.
const TAGS_MAX: usize = 32;
/// Bytes of a tag, as of a device's.
const TAG_MAX: usize = 64;
/// Bytes of one difference that are shown.
const DIFF_MAX: usize = 64 * 1024;

/// The gateways that follow a template.
#[derive(Clone, Debug)]
pub struct Group {
    template: Template,
    tenant: String,
    members: Vec<Member>,
    /// Changes whenever any of them would get another document than now, or its document would replace another one.
    pub fingerprint: String,
}

/// One of them.
#[derive(Clone, Debug)]
struct Member {
    standing: Standing,
    /// Other templates whose tags it carries, too.
    also: Vec<String>,
}

/// What applying the template does for a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its newest revision says the same already.
    Same,
    /// It gets another document.
    Changed,
    /// It cannot: the problems say why.
    Refused,
}

impl Outcome {
    /// The word in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Refused => "refused",
        }
    }
}

/// What a gateway would get.
#[derive(Clone, Debug)]
pub struct Preview {
    /// The gateway.
    pub gateway: GatewayName,
    /// Its newest revision; 0 if there is none.
    pub newest: i64,
    /// What applying does.
    pub outcome: Outcome,
    /// A unified diff from what it has; empty if it cannot be made.
    pub diff: String,
    /// The diff is longer than is shown.
    pub cut: bool,
    /// Somebody has edited the file on the router: it gets nothing unless that is adopted or overwritten.
    pub edited: bool,
    /// What is wrong, and what should be looked at.
    pub problems: Vec<Problem>,
}

/// What is to be kept for a gateway.
struct Look {
    preview: Preview,
    /// Its new document, if it gets one.
    document: Option<String>,
    devices: Vec<DeviceName>,
}

/// Whether these can be the tags of a gateway or a template, in order and each once.
pub fn tags_in_order(tags: Vec<String>) -> Result<Vec<String>, &'static str> {
    let fits = |tag: &String| {
        !tag.is_empty() && tag.len() <= TAG_MAX && tag.trim() == tag && !tag.chars().any(|c| c.is_control() || c == ',')
    };
    if tags.len() > TAGS_MAX || !tags.iter().all(fits) {
        return Err("There are at most 32 tags, each one word or more without commas, of at most 64 bytes.");
    }
    let mut tags = tags;
    tags.sort_unstable();
    tags.dedup();
    Ok(tags)
}

/// All that can be said of a template's document before a gateway is named.
pub fn check_template(name: &str, document: &str) -> Result<(), Problems> {
    let faults = text::check(document);
    let problem = |fault: text::Fault| Problem {
        severity: Severity::Error,
        file: format!("template {name}").into(),
        place: Some(place(document, fault.offset)),
        what: fault.what,
        instead: fault.instead,
    };
    if faults.is_empty() { Ok(()) } else { Err(Problems(faults.into_iter().map(problem).collect())) }
}

/// Whether a template's tags are all among those of a gateway.
fn follows(template: &[String], gateway: &[String]) -> bool {
    !template.is_empty() && template.iter().all(|tag| gateway.contains(tag))
}

/// The names of the templates whose tags a gateway carries.
pub async fn templates_of(store: &Store, tenant: TenantId, gateway: GatewayId) -> Result<Vec<String>, StoreError> {
    let tags = store.own_part(gateway).await?.tags;
    let all = store.templates(tenant).await?.into_iter();
    Ok(all.filter(|one| follows(&one.revision.tags, &tags)).map(|one| one.name).collect())
}

impl Group {
    /// The gateways that carry the tags of this template, in the revision that it has here.
    pub async fn of(store: &Store, template: Template) -> Result<Self, StoreError> {
        let tenant = store.tenant(template.tenant).await?.map(|tenant| tenant.name.as_str().to_owned());
        let mut others = store.templates(template.tenant).await?;
        others.retain(|other| other.id != template.id);
        let standings = store.standings(template.tenant).await?.into_iter();
        let members = standings.filter(|standing| follows(&template.revision.tags, &standing.tags)).map(|standing| {
            let also = others.iter().filter(|other| follows(&other.revision.tags, &standing.tags));
            let also = also.map(|other| other.name.clone()).collect();
            Member { standing, also }
        });
        let members: Vec<_> = members.collect();
        let fingerprint = fingerprint(&template, &members);
        Ok(Self { template, tenant: tenant.unwrap_or_default(), members, fingerprint })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody follows the template.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &GatewayName> {
        self.members.iter().map(|member| &member.standing.name)
    }

    /// What one of them would get.
    pub async fn preview(&self, store: &Store, name: &GatewayName) -> Result<Option<Preview>, StoreError> {
        let Some(member) = self.members.iter().find(|member| member.standing.name == *name) else { return Ok(None) };
        Ok(Some(self.look(store, member).await?.preview))
    }

    async fn look(&self, store: &Store, member: &Member) -> Result<Look, StoreError> {
        let Standing { gateway, name, .. } = &member.standing;
        let part = store.own_part(*gateway).await?;
        let before = match store.revision(*gateway, None).await? {
            Some(newest) => newest.document,
            None => store.config_report(*gateway).await?.and_then(|report| report.document).unwrap_or_default(),
        };
        let parts = self.parts(name, &part)?;
        let standing = member.standing.clone();
        let worked = tokio::task::spawn_blocking(move || worked_out(&parts, &standing, &before)).await;
        let mut look = worked.unwrap_or_else(|error| {
            tracing::error!(%error, gateway = %name, "a template could not be worked out");
            let what = "the server failed at this document";
            refused(&member.standing, vec![about(name, what, "its log says more")])
        });
        let objections = self.objections(store, member, &look.devices).await?;
        if !objections.is_empty() {
            (look.preview.outcome, look.document) = (Outcome::Refused, None);
            // Before what only should be looked at.
            look.preview.problems.splice(0..0, objections);
        }
        Ok(look)
    }

    fn parts(&self, name: &GatewayName, part: &OwnPart) -> Result<Parts, StoreError> {
        let mut values = values_of(part)?;
        values.insert("gateway.name".to_owned(), Value::Text(name.to_string()));
        values.insert("gateway.tenant".to_owned(), Value::Text(self.tenant.clone()));
        Ok(Parts {
            template: self.template.name.clone(),
            document: self.template.revision.document.clone(),
            gateway: name.clone(),
            values,
            overrides: part.overrides.clone(),
        })
    }

    /// Why it cannot get the document, however good that is.
    async fn objections(
        &self,
        store: &Store,
        member: &Member,
        devices: &[DeviceName],
    ) -> Result<Vec<Problem>, StoreError> {
        let (name, mut all) = (&member.standing.name, Vec::new());
        if !member.also.is_empty() {
            let what = format!("it carries the tags of other templates, too: {}", member.also.join(", "));
            all.push(about(name, what, "a gateway follows one template: change its tags, or those of a template"));
        }
        if member.standing.own_only {
            all.push(about(name, NotStaged::OwnOnly.to_string(), "ask its owner, or take its tags away"));
        }
        if self.members.len() > 1
            && let Some((offset, device)) = text::fixed_device(&self.template.revision.document)
            && devices.iter().any(|name| name.as_str() == device)
        {
            let what = format!("each gateway would have a device `{device}`, and names are unique on the server");
            let problem = about(name, what, "write a variable into the name: {{ gateway.name }}");
            let file = format!("template {} for {name}", self.template.name).into();
            all.push(Problem { file, place: Some(place(&self.template.revision.document, offset)), ..problem });
        }
        for device in store.devices_elsewhere(member.standing.gateway, devices).await? {
            all.push(about(name, format!("the name `{device}` is taken on the server"), "choose another one"));
        }
        Ok(all)
    }
}

/// The values that a gateway has.
pub fn values_of(part: &OwnPart) -> Result<Values, StoreError> {
    if part.values.is_empty() {
        return Ok(Values::new());
    }
    let damaged = |error: serde_json::Error| StoreError::Damaged { what: "list of values", text: error.to_string() };
    serde_json::from_str(&part.values).map_err(damaged)
}

/// What a gateway has for itself, in the form in which it is kept, if all of it can be kept.
pub fn own_part(version: i64, tags: Vec<String>, values: &Values, overrides: String) -> Result<OwnPart, String> {
    let tags = tags_in_order(tags)?;
    if values.len() > VALUES_MAX {
        return Err(format!("A gateway has at most {VALUES_MAX} values."));
    }
    for (name, value) in values {
        check_value(name, value)?;
    }
    let faults = text::check(&overrides);
    if !faults.is_empty() {
        let problem = |fault: &text::Fault| {
            let (line, column) = place(&overrides, fault.offset);
            format!("overrides:{line}:{column}: {}; {}", fault.what, fault.instead)
        };
        return Err(faults.iter().map(problem).collect::<Vec<_>>().join("\n"));
    }
    let values = serde_json::to_string(values).map_err(|error| error.to_string())?;
    Ok(OwnPart { version, tags, values, overrides })
}

fn worked_out(parts: &Parts, standing: &Standing, before: &str) -> Look {
    let desired = match parts.desired() {
        Ok(desired) => desired,
        Err(Problems(problems)) => return refused(standing, problems),
    };
    let same = standing.newest > 0 && desired.document == before;
    let newest = standing.newest;
    let from = if newest > 0 { format!("revision {newest}") } else { "running".to_owned() };
    let mut diff = diff(before, &desired.document, (&from, &format!("template {}", parts.template)));
    let cut = diff.len() > DIFF_MAX;
    if cut {
        diff.truncate(diff.floor_char_boundary(DIFF_MAX));
    }
    // What was written on the router is no hindrance if it is this very document.
    let edited = standing.edited && standing.sha256.as_deref() != Some(&sha256(&desired.document));
    let outcome = if same { Outcome::Same } else { Outcome::Changed };
    let (gateway, problems) = (standing.name.clone(), desired.warnings);
    Look {
        preview: Preview { gateway, newest, outcome, diff, cut, edited, problems },
        document: (!same).then_some(desired.document),
        devices: desired.devices,
    }
}

fn refused(standing: &Standing, problems: Vec<Problem>) -> Look {
    let Standing { name, newest, edited, .. } = standing;
    let (gateway, newest, edited, outcome) = (name.clone(), *newest, *edited, Outcome::Refused);
    let preview = Preview { gateway, newest, outcome, diff: String::new(), cut: false, edited, problems };
    Look { preview, document: None, devices: Vec::new() }
}

fn about(name: &GatewayName, what: impl Into<String>, instead: &str) -> Problem {
    let (what, instead, file) = (what.into(), instead.to_owned(), name.as_str().into());
    Problem { severity: Severity::Error, file, place: None, what, instead }
}

fn fingerprint(template: &Template, members: &[Member]) -> String {
    let mut all = Context::new(&SHA256);
    all.update(format!("{:x} {}", template.id, template.revision.number).as_bytes());
    for Member { standing, also } in members {
        let Standing { gateway, name, version, newest, sha256, edited, own_only, .. } = standing;
        let line = format!("\n{} {name} {version} {newest} {sha256:?} {edited} {own_only} {also:?}", gateway.0);
        all.update(line.as_bytes());
    }
    HEXLOWER.encode(all.finish().as_ref().get(..16).unwrap_or_default())
}

/// Devices that more than one gateway would have.
#[derive(Default)]
struct Names(HashMap<DeviceName, GatewayName>);

impl Names {
    /// Notes those of a gateway; the first that another one has, with that one.
    fn claim(&mut self, gateway: &GatewayName, devices: &[DeviceName]) -> Option<(DeviceName, GatewayName)> {
        for device in devices {
            if let Some(other) = self.0.insert(device.clone(), gateway.clone())
                && other != *gateway
            {
                return Some((device.clone(), other));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_follows_a_template_whose_tags_it_carries_all() {
        let tags = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert!(follows(&tags("a b"), &tags("a b c")));
        assert!(!follows(&tags("a b"), &tags("a c")));
        assert!(!follows(&[], &tags("a")), "nobody is meant by nothing");
        assert_eq!(tags_in_order(tags("b a b")), Ok(tags("a b")));
        for bad in ["", " a", "a,b", "a\nb", &"x".repeat(65)] {
            assert!(tags_in_order(vec![bad.to_owned()]).is_err(), "{bad}");
        }
        assert!(tags_in_order((0..33).map(|n| n.to_string()).collect()).is_err());
    }

    #[test]
    fn a_device_is_of_one_gateway() {
        let (mut names, plc) = (Names::default(), ["plc".parse().unwrap()]);
        let (one, two): (GatewayName, GatewayName) = ("one".parse().unwrap(), "two".parse().unwrap());
        assert_eq!(names.claim(&one, &plc), None);
        assert_eq!(names.claim(&two, &plc), Some((plc[0].clone(), one)));
    }
}
