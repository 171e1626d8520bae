//! A person's own account: password, second factor, sessions.

use jiff::Timestamp;
use maud::{Markup, html};

use super::second_factor::{code_field, shown};
use super::welcome::{new_password, wrong};
use super::{console_page, how_long, page};
use crate::access::{Offer, Principal, SessionKind};
use crate::store::{SessionListed, Source};

/// What the page of an account says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    /// Whose it is.
    pub(crate) who: &'a Principal,
    /// Who keeps the password.
    pub(crate) source: Source,
    /// Recovery codes left, where there is a second factor.
    pub(crate) codes_left: Option<i64>,
    /// Whether there must be a second factor.
    pub(crate) required: bool,
    /// Where the person is signed in.
    pub(crate) sessions: &'a [SessionListed],
    /// What has just been done.
    pub(crate) done: Option<&'a str>,
    /// Now.
    pub(crate) now: Timestamp,
}

/// The page of an account.
pub(crate) fn account(account: Account<'_>) -> Markup {
    console_page(
        "Account",
        account.who,
        html! {
            div.head { div { h1 { "Account" } p.soft.small { (account.who.name) @if let Some(role) = account.who.role() { ", " (role) } } } }
            @if let Some(done) = account.done {
                p.notice role="status" { (done) }
            }
            div.panels {
                section.card.panel { (password_panel(account.source)) }
                @if account.source != Source::Oidc {
                    section.card.panel { (second_factor_panel(&account)) }
                }
                section.card.panel.full { (sessions_panel(&account)) }
            }
        },
    )
}

fn password_panel(source: Source) -> Markup {
    html! {
        h2 { "Password" }
        @match source {
            Source::Local => {
                p { "A change signs you out everywhere but here." }
                p { a.button.quiet href="/account/password" { "Change password" } }
            }
            Source::Ldap => p { "Your password is that of your organisation's directory. It is changed there." },
            Source::Oidc => p { "You sign in through your organisation. Password and second factor are changed there." },
        }
    }
}

fn second_factor_panel(account: &Account<'_>) -> Markup {
    html! {
        h2 { "Second factor" }
        @if let Some(left) = account.codes_left {
            p { "You sign in with a code from your phone as well. Recovery codes left: " strong { (left) } "." }
            div.row {
                a.button.quiet href="/account/recovery-codes" { "New recovery codes" }
                @if !account.required {
                    a.button.quiet href="/account/second-factor/remove" { "Remove" }
                }
            }
        } @else {
            p { "A password can be guessed, seen or stolen. With a code from your phone it alone opens nothing." }
            p { a.button href="/account/second-factor" { "Set up" } }
        }
    }
}

fn sessions_panel(account: &Account<'_>) -> Markup {
    html! {
        h2 { "Where you are signed in" }
        ul.sessions {
            @for session in account.sessions {
                @let here = Some(session.id) == account.who.session();
                li {
                    div {
                        strong { (program(session)) }
                        @if here { " " span.tag { "this one" } }
                        p.soft.small {
                            (session.address.as_deref().unwrap_or("address unknown")) " · "
                            @match how_long(session.used, account.now) {
                                Some(time) => { "used " (time) " ago" },
                                None => { "used just now" },
                            }
                            @if let Some(time) = how_long(session.created, account.now) { " · signed in " (time) " ago" }
                        }
                    }
                    @if !here {
                        form method="post" action="/account/sessions/end" {
                            input type="hidden" name="id" value=(session.id);
                            button.quiet type="submit" aria-label=(format!("End {}", program(session))) { "End" }
                        }
                    }
                }
            }
        }
        @if account.sessions.len() > 1 {
            form method="post" action="/account/sessions/end-others" {
                button.quiet type="submit" { "End all others" }
            }
        }
    }
}

/// What a session is used with, in words. What a program says of itself is a stranger's text.
fn program(session: &SessionListed) -> String {
    let Some(agent) = session.agent.as_deref() else {
        return match session.kind {
            SessionKind::Console => "A browser".to_owned(),
            SessionKind::Api => "A program".to_owned(),
        };
    };
    let named =
        |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    let browser = named(&[
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = named(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (browser, system, agent.strip_prefix("linkspan/")) {
        (Some(browser), Some(system), _) => format!("{browser} on {system}"),
        (Some(browser), None, _) => browser.to_owned(),
        (None, _, Some(version)) => format!("Command line, linkspan {}", start(version)),
        _ => start(agent),
    }
}

fn start(text: &str) -> String {
    text.chars().take(40).collect()
}

/// The page to change the password on.
pub(crate) fn change_password(error: Option<&str>, name: &str) -> Markup {
    page(
        "Change password",
        html! {
            h1 { "Change password" }
            (wrong(error))
            form method="post" action="/account/password" {
                input type="hidden" name="name" value=(name) autocomplete="username";
                label for="present" { "Present password" }
                input #present name="present" type="password" autocomplete="current-password" required maxlength="1024" autofocus;
                (new_password("New password"))
                button.wide type="submit" { "Change" }
            }
            p.soft.small { a href="/account" { "Back" } }
        },
    )
}

/// The page to set up a second factor on.
pub(crate) fn set_up_second_factor(offer: &Offer, error: Option<&str>) -> Markup {
    page(
        "Set up a second factor",
        html! {
            h1 { "Set up a second factor" }
            (wrong(error))
            (shown(offer))
            form method="post" action="/account/second-factor" {
                (code_field("Code that the app shows now"))
                label for="present" { "Your password" }
                input #present name="present" type="password" autocomplete="current-password" required maxlength="1024";
                button.wide type="submit" { "Confirm" }
            }
            p.soft.small { a href="/account" { "Back" } }
        },
    )
}

/// A page that asks for a code before it does something to the second factor.
pub(crate) fn with_code(title: &str, text: &str, action: &str, error: Option<&str>) -> Markup {
    page(
        title,
        html! {
            h1 { (title) }
            p { (text) }
            (wrong(error))
            form method="post" action=(action) {
                (code_field("Code from your phone, or a recovery code"))
                button.wide type="submit" { "Go on" }
            }
            p.soft.small { a href="/account" { "Back" } }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(agent: Option<&str>) -> SessionListed {
        SessionListed {
            id: "0123456789abcdef".parse().unwrap(),
            kind: SessionKind::Console,
            created: Timestamp::UNIX_EPOCH,
            used: Timestamp::UNIX_EPOCH,
            expires: Timestamp::MAX,
            address: Some("192.0.2.1".into()),
            agent: agent.map(str::to_owned),
        }
    }

    #[test]
    fn programs_are_told_in_words() {
        for (agent, told) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17.0 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:120.0) Gecko/20100101 Firefox/120.0", "Firefox on Windows"),
            ("linkspan/0.1.0", "Command line, linkspan 0.1.0"),
            ("curl/8.5.0", "curl/8.5.0"),
        ] {
            assert_eq!(program(&session(Some(agent))), told);
        }
        assert_eq!(program(&session(None)), "A browser");
        assert_eq!(program(&session(Some(&"x".repeat(500)))).len(), 40);
    }

    #[test]
    fn what_a_program_says_of_itself_is_text() {
        let evil = "<script>alert(1)</script>\" onload=\"x";
        let who = crate::ui::tests::who();
        let account = Account {
            who: &who,
            source: Source::Local,
            codes_left: Some(3),
            required: false,
            sessions: &[session(Some(evil)), session(None)],
            done: Some(evil),
            now: Timestamp::UNIX_EPOCH,
        };
        let html = super::account(account).into_string();
        assert!(!html.contains("<script") && !html.contains("\" onload"), "{html}");
        assert!(html.contains("End all others"), "{html}");
    }
}
