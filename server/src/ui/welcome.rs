//! The pages behind links for one use: the first account, and choosing a password.

use maud::{Markup, html};

use super::page;

/// What these pages say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Welcome<'a> {
    /// The link's secret, to be sent back with the form.
    pub(crate) link: &'a str,
    /// The person's name: known, or as typed before.
    pub(crate) name: &'a str,
    /// Why it did not work.
    pub(crate) error: Option<&'a str>,
}

/// The page that makes the first account.
pub(crate) fn first_account(welcome: Welcome<'_>) -> Markup {
    page(
        "Welcome",
        html! {
            h1 { "Welcome" }
            p { "Nobody has an account on this server yet. The first one is yours; it may do everything." }
            (wrong(welcome.error))
            form method="post" action="/welcome" {
                input type="hidden" name="link" value=(welcome.link);
                label for="name" { "Name" }
                input #name name="name" value=(welcome.name) autocomplete="username" autocapitalize="none"
                    spellcheck="false" required maxlength="64" autofocus;
                (new_password("Password"))
                button.wide type="submit" { "Make the account" }
            }
        },
    )
}

/// The page to choose a password on.
pub(crate) fn choose_password(welcome: Welcome<'_>) -> Markup {
    page(
        "Choose a password",
        html! {
            h1 { "Choose a password" }
            p { "For " strong { (welcome.name) } ". Wherever you are signed in now, you will be signed out." }
            (wrong(welcome.error))
            form method="post" action="/welcome" {
                input type="hidden" name="link" value=(welcome.link);
                input type="hidden" name="name" value=(welcome.name) autocomplete="username";
                (new_password("New password"))
                button.wide type="submit" { "Take this password" }
            }
        },
    )
}

/// The page for a link that is not good.
pub(crate) fn link_used() -> Markup {
    page(
        "This link is not good any more",
        html! {
            h1 { "This link is not good any more" }
            p { "It was used, has expired, or a newer one is in its place." }
            p.soft { "Ask whoever looks after this server for a new one. For the very first account, the server prints one each time it starts." }
            p { a.button href="/login" { "Sign in" } }
        },
    )
}

/// The fields for a new password, twice.
pub(super) fn new_password(label: &str) -> Markup {
    html! {
        label for="new" { (label) }
        input #new name="new" type="password" autocomplete="new-password" required minlength="8" maxlength="1024"
            aria-describedby="hint";
        p #hint.hint { "At least 8 characters; a few words that do not belong together are good." }
        label for="again" { "Once more" }
        input #again name="again" type="password" autocomplete="new-password" required maxlength="1024";
    }
}

pub(super) fn wrong(error: Option<&str>) -> Markup {
    html! {
        @if let Some(error) = error {
            p.notice.bad role="alert" { (error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_text() {
        let evil = "\"><script>alert(1)</script>";
        let welcome = Welcome { link: evil, name: evil, error: Some(evil) };
        let html = first_account(welcome).into_string() + &choose_password(welcome).into_string();
        assert!(!html.contains("<script"), "{html}");
    }
}
