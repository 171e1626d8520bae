//! The chain: each row's hash covers the row before it and every column of its own (pure).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::digest::{Context, SHA256};

use super::entry::Record;

/// Says which canonical form was hashed; another form gets another first word.
const FORM: &[u8] = b"linkspan-audit-1";

/// A row's hash, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hash(String);

impl Hash {
    /// What stands before the first row.
    pub fn zero() -> Self {
        Self("0".repeat(64))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Hash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if fits { Ok(Self(text.to_owned())) } else { Err("a hash is 64 hexadecimal digits".to_owned()) }
    }
}

/// A place in the chain: a row's number and hash. Kept elsewhere, it proves later that nothing before it was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The row's number, from 1.
    pub seq: i64,
    /// The row's hash.
    pub hash: Hash,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

impl FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no anchor; write NUMBER:HASH, as `audit head` prints it, or the HASH of an entry");
        let (seq, hash) = text.split_once(':').ok_or_else(wrong)?;
        let seq = seq.parse().ok().filter(|seq| *seq >= 0).ok_or_else(wrong)?;
        Ok(Self { seq, hash: hash.parse().map_err(|_| wrong())? })
    }
}

/// What is kept of a row elsewhere, to be looked for later: its place, or, where one is not told the place, its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The row of this number has this hash.
    Row(Mark),
    /// Some row has this hash.
    Hash(Hash),
}

impl From<Mark> for Anchor {
    fn from(mark: Mark) -> Self {
        Self::Row(mark)
    }
}

impl FromStr for Anchor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self::Hash).or_else(|_| text.parse().map(Self::Row))
    }
}

/// The mark of a row that follows this one.
pub fn next(before: &Mark, record: &Record) -> Mark {
    let seq = before.seq + 1;
    Mark { seq, hash: hash(&before.hash, seq, record) }
}

/// The hash of a row with this number, after this one.
pub fn hash(before: &Hash, seq: i64, record: &Record) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(FORM);
    context.update(before.0.as_bytes());
    let Record { at, tenant, actor_kind, actor, address, client, action, target_kind, target, .. } = record;
    let Record { gateway, device, service, result, reason, details, bytes_up, bytes_down, duration_ms, .. } = record;
    for number in [Some(seq), Some(*at)] {
        add_number(&mut context, number);
    }
    let texts = [
        tenant.as_deref(),
        Some(actor_kind.as_str()),
        Some(actor.as_str()),
        address.as_deref(),
        client.as_deref(),
        Some(action.as_str()),
        target_kind.as_deref(),
        target.as_deref(),
        gateway.as_deref(),
        device.as_deref(),
        service.as_deref(),
        Some(result.as_str()),
        reason.as_deref(),
        Some(details.as_str()),
    ];
    for text in texts {
        add_text(&mut context, text);
    }
    for number in [*bytes_up, *bytes_down, *duration_ms] {
        add_number(&mut context, number);
    }
    Hash(HEXLOWER.encode(context.finish().as_ref()))
}

/// A length in front of each text: no two rows have the same bytes.
fn add_text(context: &mut Context, text: Option<&str>) {
    let Some(text) = text else { return context.update(&[0]) };
    context.update(&[1]);
    context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
    context.update(text.as_bytes());
}

fn add_number(context: &mut Context, number: Option<i64>) {
    let Some(number) = number else { return context.update(&[0]) };
    context.update(&[1]);
    context.update(&number.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{Action, Actor, ActorKind, Entry, Target};
    use super::*;

    fn record() -> Record {
        let actor = Actor::new(ActorKind::Person, "anna");
        Entry::new(Action::GATEWAY_ADD, actor).on(Target::gateway("site12")).record(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_canonical_form_stays_as_it_is() {
        // A server of tomorrow must be able to verify what was written today.
        let golden = "b8507ad1de98ce49c0555280b83b2607c40bc5108419d62e196e9d8b23da3046";
        assert_eq!(hash(&Hash::zero(), 1, &record()).as_str(), golden);
    }

    #[test]
    fn every_column_counts() {
        let changes: [fn(&mut Record); 18] = [
            |r| r.at += 1,
            |r| r.tenant = Some(String::new()),
            |r| r.actor_kind.push('x'),
            |r| r.actor.push('x'),
            |r| r.address = Some("::1".into()),
            |r| r.client = Some("x".into()),
            |r| r.action.push('x'),
            |r| r.target_kind = None,
            |r| r.target = None,
            |r| r.gateway = None,
            |r| r.device = Some("x".into()),
            |r| r.service = Some("x".into()),
            |r| r.result = "denied".into(),
            |r| r.reason = Some("x".into()),
            |r| r.details.push(' '),
            |r| r.bytes_up = Some(0),
            |r| r.bytes_down = Some(0),
            |r| r.duration_ms = Some(0),
        ];
        let before = hash(&Hash::zero(), 1, &record());
        let mut seen = std::collections::HashSet::from([before]);
        for change in changes {
            let mut changed = record();
            change(&mut changed);
            assert!(seen.insert(hash(&Hash::zero(), 1, &changed)), "{changed:?}");
        }
        assert!(seen.insert(hash(&Hash::zero(), 2, &record())), "the number");
        assert!(seen.insert(hash(&hash(&Hash::zero(), 1, &record()), 1, &record())), "the row before");
    }

    #[test]
    fn what_stands_between_two_columns_counts() {
        let (mut one, mut two) = (record(), record());
        (one.actor, one.address) = ("ab".into(), Some("c".into()));
        (two.actor, two.address) = ("a".into(), Some("bc".into()));
        assert_ne!(hash(&Hash::zero(), 1, &one), hash(&Hash::zero(), 1, &two));
    }

    #[test]
    fn an_anchor_is_read_as_it_is_written() {
        let mark = next(&Mark { seq: 6, hash: Hash::zero() }, &record());
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for bad in ["", "7", "7:", ":", "-1:0", "x:00", &format!("7:{}", "A".repeat(64))] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }
}
