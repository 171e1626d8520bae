//! Pages for guests: the one behind a visit's link, and the one they have once they have used it.

use jiff::Timestamp;
use maud::{Markup, html};

use super::brand::Brand;
use super::page_for;

/// What the page behind a link says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invitation<'a> {
    /// Who is invited.
    pub(crate) guest: &'a str,
    /// Who invited.
    pub(crate) host: &'a str,
    /// The device.
    pub(crate) device: &'a str,
    /// What on the device, in words.
    pub(crate) to: &'a str,
    /// What for.
    pub(crate) reason: &'a str,
    /// Whether they may only look.
    pub(crate) view_only: bool,
    /// Until when.
    pub(crate) ends: Timestamp,
}

/// A page that a guest can open now.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// The service's name.
    pub(crate) service: String,
    /// The page of a web service.
    pub(crate) url: Option<String>,
    /// What to type, for the others.
    pub(crate) command: Option<String>,
}

/// The page behind a link: nothing has happened yet. What follows a link before a person does (a preview, a scanner)
/// sends no form.
pub(crate) fn invitation(brand: &Brand, visit: Invitation<'_>, token: &str) -> Markup {
    page_for(
        brand,
        "A visit",
        html! {
            h1 { "You are invited" }
            p { strong { (visit.host) } (if visit.view_only { " lets you look at " } else { " lets you use " }) strong { (visit.device) } " (" (visit.to) ")." }
            (terms(visit))
            form method="post" action=(format!("/visit/{token}")) {
                button.wide type="submit" { "Begin the visit" }
            }
            p.soft.small { "This link is for you alone. It works in this browser once you have begun." }
        },
    )
}

/// The page of somebody whose visit has begun.
pub(crate) fn visiting(brand: &Brand, visit: Invitation<'_>, ways: &[Way], token: Option<&str>) -> Markup {
    let typed = ways.iter().any(|way| way.command.is_some());
    page_for(
        brand,
        "Your visit",
        html! {
            h1 { "Your visit to " (visit.device) }
            (terms(visit))
            @if ways.is_empty() {
                p.notice { "The device is not here at the moment. Try again in a few minutes." }
            }
            @for way in ways {
                @if let Some(url) = &way.url {
                    p { a.button.wide href=(url) { "Open " (way.service) } }
                }
                @if let Some(command) = &way.command {
                    p.small { strong { (way.service) } ", from your own command line:" code { (command) } }
                }
            }
            @if let Some(token) = token {
                p.notice { "Your token, shown this once: give it to the command line and to nobody else." }
                code { (format!("export LINKSPAN_TOKEN={token}")) }
            } @else if typed {
                form method="post" action="/visit/token" {
                    button.quiet.wide type="submit" { "Show a token for the command line" }
                }
            }
            form method="post" action="/visit/leave" {
                button.quiet.wide type="submit" { "End the visit in this browser" }
            }
        },
    )
}

/// Why a link does nothing now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed<'a> {
    /// In a word or two.
    pub(crate) title: &'a str,
    /// In a sentence.
    pub(crate) why: &'a str,
    /// When it begins, if it is that.
    pub(crate) begins: Option<Timestamp>,
    /// The link, if it may do something later.
    pub(crate) again: Option<&'a str>,
}

/// A link that does nothing now, and why.
pub(crate) fn closed(brand: &Brand, closed: Closed<'_>) -> Markup {
    page_for(
        brand,
        "A visit",
        html! {
            h1 { (closed.title) }
            p { (closed.why) }
            @if let Some(begins) = closed.begins {
                dl.terms { dt { "From" } dd { (moment(begins)) } }
            }
            @if let Some(token) = closed.again {
                p { a.button href=(format!("/visit/{token}")) { "Look again" } }
            } @else {
                p.soft { "Ask whoever invited you if you still need it." }
            }
        },
    )
}

/// A guest has ended the visit in their browser.
pub(crate) fn left(brand: &Brand) -> Markup {
    page_for(
        brand,
        "Visit ended",
        html! {
            h1 { "Visit ended" }
            p { "This browser has no access any more. You can close this page." }
            p.soft { "Ask whoever invited you if you need it again." }
        },
    )
}

fn terms(visit: Invitation<'_>) -> Markup {
    html! {
        dl.terms {
            dt { "For" } dd { (visit.guest) }
            dt { "Reason" } dd { (visit.reason) }
            dt { "Until" } dd { (moment(visit.ends)) }
            @if visit.view_only {
                dt { "You may" } dd { "look, and change nothing" }
            }
        }
    }
}

/// A phone does not tell its zone without a script, so the time is told for everybody.
fn moment(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (at.strftime("%A, %-d %B %Y, %H:%M UTC").to_string()) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text() {
        let evil = "<script>alert(1)</script>\" onload=\"x";
        let ends = Timestamp::UNIX_EPOCH;
        let visit = Invitation { guest: evil, host: evil, device: evil, to: evil, reason: evil, view_only: true, ends };
        let ways = [Way { service: evil.into(), url: Some(evil.into()), command: Some(evil.into()) }];
        for html in [
            invitation(&Brand::default(), visit, evil),
            visiting(&Brand::default(), visit, &ways, Some(evil)),
            closed(&Brand::default(), Closed { title: evil, why: evil, begins: Some(ends), again: Some(evil) }),
        ] {
            let html = html.into_string();
            assert!(!html.contains("<script") && !html.contains("\" onload"), "{html}");
        }
        let html = invitation(&Brand::default(), visit, "t").into_string();
        assert!(html.contains("Thursday, 1 January 1970, 00:00 UTC"), "{html}");
    }
}
