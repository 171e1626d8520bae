//! The page to sign in on.

use maud::{Markup, html};

use super::page;

/// What the page to sign in says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Login<'a> {
    /// Where the person goes on to, a path of the console.
    pub(crate) next: &'a str,
    /// The device's host they asked for, if they come from one.
    pub(crate) wanted: Option<&'a str>,
    /// The name typed before.
    pub(crate) name: &'a str,
    /// Why it did not work.
    pub(crate) error: Option<&'a str>,
    /// What has just been done.
    pub(crate) done: Option<&'a str>,
    /// What stands on the button that leads to an OpenID provider, where there is one; and where it leads.
    pub(crate) provider: Option<(&'a str, &'a str)>,
}

/// A page that says why a sign-in elsewhere came to nothing.
pub(crate) fn sign_in_trouble(text: &str) -> Markup {
    page("Not signed in", html! { h1 { "Not signed in" } p { (text) } p { a.button href="/login" { "Try again" } } })
}

/// The page after signing out of a session that a provider had vouched for.
pub(crate) fn signed_out(title: &str, there: &str) -> Markup {
    page(
        "Signed out",
        html! {
            h1 { "Signed out" }
            p { "You are signed out here. With " (title) " you still are signed in: on a shared machine, sign out there as well." }
            div.row {
                a.button href=(there) { "Sign out there" }
                a.button.quiet href="/login" { "Sign in again" }
            }
        },
    )
}

/// The page to sign in on.
pub(crate) fn login(login: Login<'_>) -> Markup {
    let first = login.name.is_empty();
    page(
        "Sign in",
        html! {
            h1 { "Sign in" }
            @if let Some(host) = login.wanted {
                p.notice { "You will go on to " strong { (host) } "." }
            }
            @if let Some(done) = login.done {
                p.notice role="status" { (done) }
            }
            @if let Some(error) = login.error {
                p.notice.bad role="alert" { (error) }
            }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(login.next);
                label for="name" { "Name" }
                input #name name="name" value=(login.name) autocomplete="username" autocapitalize="none"
                    spellcheck="false" required maxlength="64" autofocus[first];
                label for="password" { "Password" }
                input #password name="password" type="password" autocomplete="current-password" required
                    maxlength="1024" autofocus[!first];
                button.wide type="submit" { "Sign in" }
            }
            @if let Some((title, href)) = login.provider {
                p.or.soft.small { "or" }
                a.button.quiet.wide href=(href) { "Sign in with " (title) }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_text() {
        let evil = "\"><script>alert(1)</script>";
        let html = login(Login {
            next: evil,
            wanted: Some(evil),
            name: evil,
            error: Some(evil),
            done: Some(evil),
            provider: Some((evil, evil)),
        })
        .into_string();
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 7);
    }
}
