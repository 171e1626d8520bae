//! The pages of the second factor: the code at sign-in, setting it up, and the recovery codes.

use maud::{Markup, html};
use qrcode::{EcLevel, QrCode};

use super::page;
use crate::access::Offer;

/// The page that asks for a code after the password.
pub(crate) fn code(next: &str, error: Option<&str>) -> Markup {
    page(
        "Second factor",
        html! {
            h1 { "Second factor" }
            @if let Some(error) = error {
                p.notice.bad role="alert" { (error) }
            }
            form method="post" action="/login/code" {
                input type="hidden" name="next" value=(next);
                (code_field("Code from your phone"))
                button.wide type="submit" { "Go on" }
            }
            p.soft.small { "Without the phone, type one of your recovery codes. " a href="/login" { "Begin again" } "." }
        },
    )
}

/// The field that a code is typed into.
pub(super) fn code_field(label: &str) -> Markup {
    html! {
        label for="code" { (label) }
        input #code.code name="code" autocomplete="one-time-code" autocapitalize="none" spellcheck="false" required
            maxlength="32" autofocus;
    }
}

/// The page that must be gone through before the first sign-in where a second factor is required.
pub(crate) fn required(offer: &Offer, next: &str, error: Option<&str>) -> Markup {
    page(
        "Set up a second factor",
        html! {
            h1 { "Set up a second factor" }
            p { "You sign in here with a code from your phone as well." }
            @if let Some(error) = error {
                p.notice.bad role="alert" { (error) }
            }
            (shown(offer))
            form method="post" action="/login/second-factor" {
                input type="hidden" name="next" value=(next);
                (code_field("Code that the app shows now"))
                button.wide type="submit" { "Confirm" }
            }
        },
    )
}

/// The secret, for a camera and for fingers.
pub(super) fn shown(offer: &Offer) -> Markup {
    html! {
        p { "Photograph this with an authenticator app: Aegis, FreeOTP, Google or Microsoft Authenticator, a password manager …" }
        (qr(&offer.url))
        details {
            summary { "Or type it" }
            code { (in_fours(&offer.secret)) }
            p.soft.small { "Kind: by time, SHA-1, 6 digits, 30 seconds." }
        }
    }
}

/// The recovery codes, on the only page that ever shows them.
pub(crate) fn recovery_codes(codes: &[String], on: &str) -> Markup {
    page(
        "Recovery codes",
        html! {
            h1 { "Keep these codes" }
            p { "Each signs you in once if your phone is gone. They are not shown again: print them, or keep them in a password manager." }
            ul.codes { @for code in codes { li { (code) } } }
            p { a.button.wide href=(on) { "I have kept them" } }
        },
    )
}

/// A QR code drawn with as few elements as it can be, in black on white whatever the page's colours.
fn qr(text: &str) -> Markup {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::M) else { return html! {} };
    let width = code.width();
    let colours = code.to_colors();
    let mut path = String::new();
    for (row, line) in colours.chunks(width).enumerate() {
        for (column, colour) in line.iter().enumerate() {
            if *colour == qrcode::Color::Dark {
                path.push_str(&format!("M{} {}h1v1h-1z", column + QUIET, row + QUIET));
            }
        }
    }
    let size = width + 2 * QUIET;
    html! {
        svg.qr viewBox=(format!("0 0 {size} {size}")) role="img" aria-label="QR code of the secret" shape-rendering="crispEdges" {
            rect width=(size) height=(size) fill="#fff" {}
            path d=(path) fill="#000" {}
        }
    }
}

/// Empty modules around the code; cameras need them.
const QUIET: usize = 4;

fn in_fours(text: &str) -> String {
    text.as_bytes().chunks(4).map(|four| String::from_utf8_lossy(four).into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_drawn_and_written() {
        let offer = Offer { secret: "ABCDEFGH".into(), url: "otpauth://totp/x:y?secret=ABCDEFGH&issuer=x".into() };
        let html = required(&offer, "/", None).into_string();
        assert!(html.contains("<path d=\"M4 4h1v1h-1z") && html.contains("ABCD EFGH"), "{html}");
        assert!(!html.contains("style=") && !html.contains("data:image/png"), "{html}");
    }

    #[test]
    fn what_was_typed_is_text() {
        let evil = "\"><script>alert(1)</script>";
        let html = code(evil, Some(evil)).into_string() + &recovery_codes(&[evil.into()], evil).into_string();
        assert!(!html.contains("<script"), "{html}");
    }
}
