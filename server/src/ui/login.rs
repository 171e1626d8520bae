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
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_is_text() {
        let evil = "\"><script>alert(1)</script>";
        let html = login(Login { next: evil, wanted: Some(evil), name: evil, error: Some(evil), done: Some(evil) })
            .into_string();
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 5);
    }
}
