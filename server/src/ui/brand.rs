//! How an organisation's pages look: its name and its colour.

use data_encoding::BASE64;
use ring::digest::{SHA256, digest};

/// Longest title, in characters.
const TITLE_MAX: usize = 40;
/// White letters on the colour can be read from this contrast on (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;

/// An organisation's name and colour; nothing of its own looks as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brand {
    title: String,
    colour: String,
}

/// Why pages cannot look so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrandError {
    /// The title.
    #[error("a title has at most {TITLE_MAX} characters, on one line")]
    Title,
    /// The colour is none.
    #[error("a colour is written like `#0b5f8f`")]
    Colour,
    /// The colour is too light.
    #[error("white letters could not be read on this colour; choose a darker one")]
    Light,
}

impl Brand {
    /// Checks both; either may be empty.
    pub fn parse(title: &str, colour: &str) -> Result<Self, BrandError> {
        if title.chars().count() > TITLE_MAX || title.chars().any(char::is_control) || title.trim() != title {
            return Err(BrandError::Title);
        }
        if !colour.is_empty() && contrast_to_white(colour).ok_or(BrandError::Colour)? < CONTRAST {
            return Err(BrandError::Light);
        }
        Ok(Self { title: title.to_owned(), colour: colour.to_owned() })
    }

    /// What stands on the pages.
    pub fn title(&self) -> &str {
        if self.title.is_empty() { "Linkspan" } else { &self.title }
    }

    /// What is added to the style, if anything.
    pub(super) fn style(&self) -> Option<String> {
        let Self { colour, .. } = self;
        (!colour.is_empty()).then(|| {
            format!(".brand svg rect{{fill:{colour}}}button:not(.quiet),a.button{{background:{colour};color:#fff}}")
        })
    }

    /// The source of that style in a `Content-Security-Policy`.
    pub(super) fn style_source(&self) -> String {
        let hash = |style: String| format!(" 'sha256-{}'", BASE64.encode(digest(&SHA256, style.as_bytes()).as_ref()));
        self.style().map(hash).unwrap_or_default()
    }
}

/// The contrast of white to a colour like `#0b5f8f` (WCAG 2.2).
fn contrast_to_white(colour: &str) -> Option<f64> {
    let digits = colour.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let part = |at: usize| {
        let value = f64::from(u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?) / 255.0;
        Some(if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) })
    };
    let luminance = 0.2126 * part(0)? + 0.7152 * part(2)? + 0.0722 * part(4)?;
    Some(1.05 / (luminance + 0.05))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brand_is_short_and_can_be_read() {
        let brand = Brand::parse("Acme Works", "#8a1538").unwrap();
        assert_eq!(brand.title(), "Acme Works");
        assert!(brand.style().unwrap().contains("#8a1538"));
        assert_eq!(Brand::parse("", "").unwrap(), Brand::default());
        assert_eq!(Brand::default().title(), "Linkspan");
        for bad in ["red", "#fff", "#12345g", "0b5f8f", "#0b5f8f;}", "#ö1234"] {
            assert_eq!(Brand::parse("", bad), Err(BrandError::Colour), "{bad}");
        }
        assert_eq!(Brand::parse("", "#ffee00"), Err(BrandError::Light));
        for bad in ["a\nb", " a", &"x".repeat(41)] {
            assert_eq!(Brand::parse(bad, ""), Err(BrandError::Title), "{bad:?}");
        }
    }
}
