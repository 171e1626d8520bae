//! Claim codes: short words for one use that a person reads aloud, types or scans, with a check character against slips.

use std::fmt;
use std::str::FromStr;

/// The digits and letters of Crockford's base 32: no I, L, O and U, which are taken for others.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters, the check character included: 75 random bits, too many to try even for somebody who has the hash.
const LENGTH: usize = 16;
/// Characters between two hyphens.
const GROUP: usize = 4;
/// Longest text that is looked at.
const TEXT_MAX: usize = 64;

/// A claim code: `K7QM-3XTD-9VWP-4RHC`. It has no `Display`, and its `Debug` says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimCode([u8; LENGTH]);

/// Why a text is not a claim code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Too many or too few characters, or some that are in no code.
    #[error("a claim code has 16 letters and digits in four groups, like K7QM-3XTD-9VWP-4RHC")]
    Form,
    /// A slip in typing.
    #[error("a character of the claim code is mistyped, or two are swapped")]
    Check,
}

impl ClaimCode {
    /// A code of these random bits.
    pub fn from_random(bytes: [u8; LENGTH - 1]) -> Self {
        let mut values = [0; LENGTH];
        for (value, byte) in values.iter_mut().zip(bytes) {
            *value = byte % 32;
        }
        values[LENGTH - 1] = check(&values);
        Self(values)
    }

    /// As people read it.
    pub fn expose(&self) -> String {
        let letters = self.0.iter().map(|value| char::from(ALPHABET[usize::from(value % 32)]));
        let mut text = String::with_capacity(LENGTH + LENGTH / GROUP);
        for (n, letter) in letters.enumerate() {
            if n > 0 && n % GROUP == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        text
    }
}

/// Reads what a person typed: in any case, with or without hyphens and spaces, O for 0, I and L for 1.
impl FromStr for ClaimCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > TEXT_MAX {
            return Err(CodeError::Form);
        }
        let mut values = [0; LENGTH];
        let mut count = 0;
        for letter in text.bytes().filter(|letter| !matches!(letter, b'-' | b' ')) {
            let letter = match letter.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                other => other,
            };
            let value = ALPHABET.iter().position(|known| *known == letter).ok_or(CodeError::Form)?;
            *values.get_mut(count).ok_or(CodeError::Form)? = u8::try_from(value).map_err(|_| CodeError::Form)?;
            count += 1;
        }
        match count {
            LENGTH if values[LENGTH - 1] == check(&values) => Ok(Self(values)),
            LENGTH => Err(CodeError::Check),
            _ => Err(CodeError::Form),
        }
    }
}

impl fmt::Debug for ClaimCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClaimCode(…)")
    }
}

/// Odd weights: every single mistyped character changes the sum, and so do nearly all swapped neighbours.
fn check(values: &[u8; LENGTH]) -> u8 {
    let weighted = values.iter().take(LENGTH - 1).zip((1_u32..).step_by(2));
    let sum: u32 = weighted.map(|(value, weight)| u32::from(*value) * weight).sum();
    u8::try_from(sum % 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> ClaimCode {
        ClaimCode::from_random([200, 7, 31, 0, 1, 2, 3, 9, 10, 11, 64, 65, 90, 255, 17])
    }

    #[test]
    fn a_code_is_read_back_however_it_is_typed() {
        let text = code().expose();
        assert_eq!(text.len(), 19);
        assert_eq!(text.parse(), Ok(code()));
        for typed in [text.to_lowercase(), text.replace('-', ""), text.replace('-', " "), text.replace('0', "o")] {
            assert_eq!(typed.parse(), Ok(code()), "{typed}");
        }
        assert_eq!(text.replace('1', "l").parse(), Ok(code()));
    }

    #[test]
    fn every_single_slip_is_noticed() {
        let text = code().expose();
        for (at, was) in text.char_indices().filter(|(_, letter)| *letter != '-') {
            for other in ALPHABET.iter().map(|letter| char::from(*letter)).filter(|other| *other != was) {
                let mut typed = text.clone();
                typed.replace_range(at..=at, &other.to_string());
                assert_eq!(typed.parse::<ClaimCode>(), Err(CodeError::Check), "{typed}");
            }
        }
    }

    #[test]
    fn other_texts_are_no_codes_and_none_is_printed() {
        let long = "A".repeat(10_000);
        for other in ["", "K7QM", "K7QM-3XTD-9VWP-4RHC-1", "K7QM-3XTD-9VWP-4RU!", "ä7QM-3XTD-9VWP-4RHC", &long] {
            assert_eq!(other.parse::<ClaimCode>(), Err(CodeError::Form), "{other}");
        }
        assert_eq!(format!("{:?}", code()), "ClaimCode(…)");
    }
}
