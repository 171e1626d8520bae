//! Which new passwords are taken: long ones, none that everybody tries first, none that is the person's own name. No
//! rules about kinds of characters: they make passwords worse (NIST SP 800-63B).

use linkspan_protocol::id::Secret;

/// Shortest new password, in characters.
const SHORTEST: usize = 8;
/// Longest password, in bytes; longer text is refused before anything is computed with it.
pub(super) const LONGEST: usize = 1024;
/// Characters that must be left when names and the like are taken away.
const LEFT: usize = 5;
/// Different characters that a password has at least.
const DIFFERENT: usize = 4;
/// What is tried first, one per line, in lower case and with `SHORTEST` characters or more.
const COMMON: &str = include_str!("common-passwords.txt");

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Too few characters.
    #[error("a password has at least {SHORTEST} characters; a few words that do not belong together are good")]
    Short,
    /// More than anybody types.
    #[error("a password has at most {LONGEST} bytes")]
    Long,
    /// Among those that are tried first, or as plain as those.
    #[error("this password is among the first that are tried; take a few words that do not belong together")]
    Common,
    /// Made of names that an attacker knows.
    #[error(
        "this password is made of your name or the name of this site; take a few words that do not belong together"
    )]
    Name,
}

/// What an attacker knows of a person.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The name they sign in with.
    pub name: &'a str,
    /// The console's host name; may be empty.
    pub site: &'a str,
}

/// Whether a new password is taken.
///
/// # Errors
/// Why it is not, and what to take instead.
pub fn judge(password: &Secret, context: &Context<'_>) -> Result<(), WeakPassword> {
    let password = password.expose();
    if password.len() > LONGEST {
        return Err(WeakPassword::Long);
    }
    if password.chars().count() < SHORTEST {
        return Err(WeakPassword::Short);
    }
    let plain = password.to_lowercase();
    if COMMON.lines().any(|common| common == plain) || too_regular(&plain) {
        return Err(WeakPassword::Common);
    }
    let mut rest = plain;
    for word in words(context) {
        rest = rest.replace(&word, "");
    }
    if rest.chars().filter(|c| c.is_alphanumeric()).count() < LEFT && rest.len() != password.len() {
        return Err(WeakPassword::Name);
    }
    Ok(())
}

/// Names that a password may not consist of, the longest first.
fn words(context: &Context<'_>) -> Vec<String> {
    let parts = |text: &str| -> Vec<String> {
        let text = text.to_lowercase();
        let parts = text.split(['.', '-', '_', '@']).filter(|part| part.len() >= 3).map(str::to_owned);
        parts.chain([text.clone()]).filter(|part| !part.is_empty()).collect()
    };
    let mut all = [parts(context.name), parts(context.site), vec!["linkspan".to_owned()]].concat();
    all.sort_by_key(|word| std::cmp::Reverse(word.len()));
    all
}

/// A few characters over and over, or one after the other.
fn too_regular(text: &str) -> bool {
    let characters: Vec<u32> = text.chars().map(u32::from).collect();
    let mut different = characters.clone();
    different.sort_unstable();
    different.dedup();
    let steps: Vec<i64> = characters
        .windows(2)
        .filter_map(|two| {
            let [a, b] = two else { return None };
            Some(i64::from(*b) - i64::from(*a))
        })
        .collect();
    let in_order = [1, -1].iter().any(|step| steps.iter().filter(|s| *s == step).count() + 2 >= characters.len());
    different.len() < DIFFERENT || in_order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(password: &str) -> Result<(), WeakPassword> {
        judge(&Secret::new(password), &Context { name: "anna.berg@example.com", site: "remote.harbour.example" })
    }

    #[test]
    fn length_and_words_decide_and_kinds_of_characters_do_not() {
        for good in [
            "correct horse",
            "a password for tests",
            "no-digits-here",
            "8 bridges",
            "паром и причал",
            "x7#kQ2!p",
            "harbour lights 4",
        ] {
            assert_eq!(told(good), Ok(()), "{good}");
        }
        assert_eq!(told("1234567"), Err(WeakPassword::Short));
        assert_eq!(told("ümläute"), Err(WeakPassword::Short), "counted in characters");
        assert_eq!(told(&"x".repeat(1025)), Err(WeakPassword::Long));
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        for common in [
            "password",
            "Password1",
            "12345678",
            "QWERTYUIOP",
            "iloveyou",
            "aaaaaaaa",
            "abababab",
            "abcdefgh",
            "87654321",
            "456789abc",
            "changeme",
            "administrator",
            "letmein123",
            "!!!!!!!!",
        ] {
            assert_eq!(told(common), Err(WeakPassword::Common), "{common}");
        }
    }

    #[test]
    fn names_that_everybody_knows_are_refused() {
        for name in [
            "anna.berg@example.com",
            "annaberg",
            "Anna2024",
            "harbour1234",
            "linkspan-1",
            "RemoteHarbour",
            "bergbergberg",
        ] {
            assert!(told(name).is_err(), "{name}");
        }
    }

    #[test]
    fn the_list_holds_what_the_other_rules_do_not_catch() {
        assert!(COMMON.lines().count() > 300);
        for line in COMMON.lines() {
            assert!(line.chars().count() >= SHORTEST && line == line.to_lowercase() && line.trim() == line, "{line:?}");
        }
    }
}
