//! Reads two things out of an X.509 certificate (RFC 5280, section 4.1) that TLS libraries do not tell: its dates, in
//! seconds since 1970, and its public key. It checks nothing: a certificate is trusted for other reasons, or not at all.

use std::ops::RangeInclusive;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// From the first to the last second in which the certificate holds.
    pub validity: RangeInclusive<u64>,
    /// The whole SubjectPublicKeyInfo: what key pins are the SHA-256 of (RFC 7469, section 2.4).
    pub public_key: &'a [u8],
}

/// Reads a certificate in DER; none if it is not one.
pub fn parts(der: &[u8]) -> Option<Parts<'_>> {
    let certificate = element(der)?;
    let tbs = element(certificate.content)?;
    let mut rest = tbs.content;
    // Version (optional, tag [0]), serial number, signature algorithm, issuer; then validity, subject, public key.
    let first = element(rest)?;
    if first.tag == 0xa0 {
        rest = first.after;
    }
    for _ in 0..3 {
        rest = element(rest)?.after;
    }
    let validity = element(rest)?;
    let not_before = element(validity.content)?;
    let not_after = element(not_before.after)?;
    let subject = element(validity.after)?;
    let public_key = element(subject.after)?;
    Some(Parts { validity: time(&not_before)?..=time(&not_after)?, public_key: public_key.whole })
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
    after: &'a [u8],
}

fn element(der: &[u8]) -> Option<Element<'_>> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().try_fold(0_usize, |sum, digit| sum.checked_mul(256)?.checked_add((*digit).into()))?, rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    let whole = der.get(..der.len() - after.len())?;
    Some(Element { tag: *tag, content, whole, after })
}

/// `UTCTime` (two digits of the year, 1950 to 2049) or `GeneralizedTime`, both to the second and in UTC.
fn time(element: &Element<'_>) -> Option<u64> {
    let text = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let (year, rest) = match (element.tag, text.len()) {
        (0x17, 12) if digits => {
            let year: u64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        (0x18, 14) if digits => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let (month, day, hour, minute, second) = (two(0)?, two(2)?, two(4)?, two(6)?, two(8)?);
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    // A year before 1970 is as good as 1970.
    fits.then(|| day_number(year, month, day).saturating_mul(86_400) + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 (after H. Hinnant, "chrono-compatible low-level date algorithms"); 0 for days before it.
fn day_number(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        let mut all = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
        all.extend_from_slice(content);
        all
    }

    fn certificate(not_before: (u8, &str), not_after: (u8, &str)) -> Vec<u8> {
        let time = |(tag, text): (u8, &str)| der(tag, text.as_bytes());
        let validity = der(0x30, &[time(not_before), time(not_after)].concat());
        let tbs = [
            der(0xa0, &der(0x02, &[2])),
            der(0x02, &[1]),
            der(0x30, b""),
            der(0x30, b"issuer"),
            validity,
            der(0x30, b"subject"),
            der(0x30, b"key"),
        ];
        der(0x30, &der(0x30, &tbs.concat()))
    }

    #[test]
    fn dates_and_key_are_found() {
        let one = certificate((0x17, "700101000000Z"), (0x18, "21000301000001Z"));
        let found = parts(&one).unwrap();
        assert_eq!(found.validity, 0..=4_107_542_401);
        assert_eq!(found.public_key, der(0x30, b"key"));
        let two = certificate((0x17, "500101000000Z"), (0x17, "491231235959Z"));
        assert_eq!(parts(&two).unwrap().validity, 0..=2_524_607_999);
        let leap = certificate((0x17, "000229000000Z"), (0x17, "241231000000Z"));
        assert_eq!(parts(&leap).unwrap().validity, 951_782_400..=1_735_603_200);
    }

    #[test]
    fn what_is_no_certificate_is_none_and_never_panics() {
        let good = certificate((0x17, "700101000000Z"), (0x18, "21000301000001Z"));
        for end in 0..good.len() {
            assert_eq!(parts(&good[..end]), None);
        }
        for at in 0..good.len() {
            for byte in [0, 0x7f, 0x84, 0xff] {
                let mut spoilt = good.clone();
                spoilt[at] = byte;
                let _ = parts(&spoilt);
            }
        }
        assert_eq!(parts(&certificate((0x17, "701301000000Z"), (0x18, "21000301000000Z"))), None);
        assert_eq!(parts(&certificate((0x17, "70010100000ZZ"), (0x18, "21000301000000Z"))), None);
    }
}
