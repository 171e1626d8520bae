//! What an entry of a directory says: who it is for ever, and whether the account is disabled (pure).

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use ldap3::SearchEntry;

/// What is asked for of a person. The operational ones come only when named.
pub(super) const ATTRIBUTES: &[&str] = &[
    "memberOf",
    "entryUUID",
    "objectGUID",
    "nsUniqueId",
    "ipaUniqueID",
    "userAccountControl",
    "accountExpires",
    "pwdAccountLockedTime",
    "nsAccountLock",
    "loginDisabled",
    "shadowExpire",
];

/// Active Directory's mark of a disabled account.
const ACCOUNT_DISABLED: i64 = 0x2;
/// Seconds from 1601, where Active Directory begins to count, to 1970.
const SECONDS_1601_TO_1970: i64 = 11_644_473_600;

/// Names somebody in the directory for ever: a name may pass to somebody else, and a place may change.
pub(super) fn subject(entry: &SearchEntry) -> String {
    for kind in ["entryUUID", "objectGUID", "nsUniqueId", "ipaUniqueID"] {
        if let Some(text) = text(entry, kind) {
            return format!("{kind}:{text}");
        }
        let bytes = entry.bin_attrs.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind));
        if let Some(bytes) = bytes.and_then(|(_, values)| values.first()) {
            return format!("{kind}:{}", HEXLOWER.encode(bytes));
        }
    }
    format!("dn:{}", super::dn::normal(&entry.dn))
}

/// Whether the account is disabled, locked or expired, by any of the marks that directories use.
pub(super) fn is_disabled(entry: &SearchEntry, now: Timestamp) -> bool {
    let number = |kind| text(entry, kind).and_then(|text| text.parse::<i64>().ok());
    let is_true = |kind| text(entry, kind).is_some_and(|text| text.eq_ignore_ascii_case("true"));
    let control = number("userAccountControl").is_some_and(|control| control & ACCOUNT_DISABLED != 0);
    let expired = number("accountExpires").is_some_and(|ticks| {
        !matches!(ticks, 0 | i64::MAX) && ticks / 10_000_000 - SECONDS_1601_TO_1970 <= now.as_second()
    });
    let shadow = number("shadowExpire").is_some_and(|days| days > 0 && days * 86_400 <= now.as_second());
    let locked = text(entry, "pwdAccountLockedTime").is_some();
    control || expired || shadow || locked || is_true("nsAccountLock") || is_true("loginDisabled")
}

/// The values of an attribute, whatever the case of its name.
pub(super) fn texts<'e>(entry: &'e SearchEntry, kind: &str) -> impl Iterator<Item = &'e String> {
    let kind = kind.to_ascii_lowercase();
    entry.attrs.iter().filter(move |(name, _)| name.to_ascii_lowercase() == kind).flat_map(|(_, values)| values)
}

fn text<'e>(entry: &'e SearchEntry, kind: &str) -> Option<&'e String> {
    texts(entry, kind).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(attributes: &[(&str, &str)]) -> SearchEntry {
        SearchEntry {
            dn: "uid=anna,dc=x".into(),
            attrs: attributes.iter().map(|(kind, value)| ((*kind).to_owned(), vec![(*value).to_owned()])).collect(),
            bin_attrs: Default::default(),
        }
    }

    #[test]
    fn every_mark_of_a_disabled_account_counts() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        for mark in [
            ("userAccountControl", "514"),
            ("useraccountcontrol", "66050"),
            ("accountExpires", "132000000000000000"),
            ("pwdAccountLockedTime", "000001010000Z"),
            ("nsAccountLock", "TRUE"),
            ("loginDisabled", "true"),
            ("shadowExpire", "1"),
        ] {
            assert!(is_disabled(&entry(&[mark]), now), "{mark:?}");
        }
        for fine in [
            ("userAccountControl", "512"),
            ("userAccountControl", "66048"),
            ("accountExpires", "0"),
            ("accountExpires", "9223372036854775807"),
            ("accountExpires", "140000000000000000"),
            ("nsAccountLock", "FALSE"),
            ("shadowExpire", "-1"),
            ("shadowExpire", "30000"),
        ] {
            assert!(!is_disabled(&entry(&[fine]), now), "{fine:?}");
        }
    }

    #[test]
    fn somebody_is_named_by_what_never_changes() {
        assert_eq!(subject(&entry(&[("entryUUID", "1-2")])), "entryUUID:1-2");
        let mut binary = entry(&[]);
        binary.bin_attrs.insert("objectGUID".into(), vec![vec![0xff, 0x01]]);
        assert_eq!(subject(&binary), "objectGUID:ff01");
        assert_eq!(subject(&entry(&[])), "dn:uid=anna,dc=x");
    }
}
