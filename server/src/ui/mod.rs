//! Pages for people: rendered here, readable on a phone, without a script and without anything loaded from elsewhere.

mod account;
mod brand;
mod devices;
mod login;
mod second_factor;
mod visit;
mod way;
mod welcome;

use data_encoding::BASE64;
use http::HeaderValue;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

pub(crate) use account::{Account, account, change_password, set_up_second_factor, with_code};
pub use brand::{Brand, BrandError};
pub(crate) use devices::{List, devices, how_long};
pub(crate) use login::{Login, login, sign_in_trouble, signed_out};
pub(crate) use second_factor::{code, recovery_codes, required};
pub(crate) use visit::{Closed, Invitation, Way, closed as visit_closed, invitation, left as visit_left, visiting};
pub use way::Part;
pub(crate) use way::way;
pub(crate) use welcome::{Welcome, choose_password, first_account, link_used};

use crate::access::Principal;
use crate::config::Site;

const STYLE: &str = include_str!("style.css");
/// A span from the quay to a ship, whatever the tide.
const LOGO: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" fill="#0b5f8f"/><path d="M5 20h7M20 14.500h7" stroke="#fff" stroke-width="3" stroke-linecap="round"/><path d="M12 20 20 14.500" stroke="#7fd0ff" stroke-width="3" stroke-linecap="round"/><path d="M4 26c2 0 2-1.500 4-1.500s2 1.500 4 1.500 2-1.500 4-1.500 2 1.500 4 1.500 2-1.500 4-1.500 2 1.500 4 1.500" fill="none" stroke="#7fd0ff" stroke-width="2" stroke-linecap="round"/><path d="M8.500 20V9M8.500 9 19 13" stroke="#fff" stroke-width="1.500" stroke-linecap="round"/></svg>"##;

/// A whole page with one card in the middle: for signing in and for everything that went wrong. It loads nothing, so
/// it works on any host; send [`content_security_policy`] with it.
pub fn page(title: &str, body: Markup) -> Markup {
    page_for(&Brand::default(), title, body)
}

/// The same in the look of an organisation; send [`policy_for`] it.
pub(crate) fn page_for(brand: &Brand, title: &str, body: Markup) -> Markup {
    document(
        brand,
        title,
        html! {
            main.alone {
                div.card {
                    // No link: on a device's host it would lead to the device.
                    span.brand { (PreEscaped(LOGO)) (brand.title()) }
                    (body)
                }
            }
        },
    )
}

/// A page of the console for somebody who has signed in.
pub(crate) fn console_page(title: &str, who: &Principal, body: Markup) -> Markup {
    console_page_for(&Brand::default(), title, who, body)
}

/// The same in the look of an organisation; send [`policy_for`] it.
pub(crate) fn console_page_for(brand: &Brand, title: &str, who: &Principal, body: Markup) -> Markup {
    document(
        brand,
        title,
        html! {
            header.top {
                div {
                    a.brand href="/" { (PreEscaped(LOGO)) (brand.title()) }
                    form method="post" action="/logout" {
                        a.who.small href="/account" aria-label=(format!("Your account, {}", who.name))
                            title=(format!("{} ({})", who.name, who.role().unwrap_or("single grants"))) { (who.name) }
                        button.quiet.small type="submit" { "Sign out" }
                    }
                }
            }
            main { (body) }
        },
    )
}

/// For a page that is not there, or that this person may not see: one looks like the other.
pub fn not_found() -> Markup {
    page(
        "Not found",
        html! {
            h1 { "Not found" }
            p { (NOT_FOUND) }
            p.soft { "Check the spelling, or ask whoever looks after the devices." }
            p { a.button href="/" { "To my devices" } }
        },
    )
}

/// What is said of everything that is not there, or not theirs.
pub(crate) const NOT_FOUND: &str = "There is no such page or device here, or it is not yours to see.";

/// A page that says in two sentences what went wrong.
pub(crate) fn trouble(title: &str, text: &str) -> Markup {
    page(title, html! { h1 { (title) } p { (text) } p { a.button href="/" { "To my devices" } } })
}

/// For what the server itself failed at.
pub(crate) fn own_fault() -> Markup {
    page(
        "Something broke here",
        html! {
            (way(Part::Server))
            h1 { "Something broke here" }
            p { "The server cannot read its data. Neither you nor the device is at fault." }
            p.soft { "Try again in a moment; if it stays, tell whoever runs this server." }
            p { a.button href="" { "Try again" } }
        },
    )
}

/// The `Content-Security-Policy` of every page made here: its own style and nothing else.
pub fn content_security_policy() -> HeaderValue {
    policy("'self'", "")
}

/// The same for pages in the look of an organisation.
pub(crate) fn policy_for(brand: &Brand) -> HeaderValue {
    policy("'self'", &brand.style_source())
}

/// The same for pages with the sign-in form: browsers hold the redirects that follow a form against `form-action`, and
/// those lead to a device's host.
pub(crate) fn sign_in_policy(site: &Site) -> HeaderValue {
    policy(&format!("'self' {}", site.origin_of("*")), "")
}

fn policy(form_action: &str, more_style: &str) -> HeaderValue {
    let hash = BASE64.encode(digest(&SHA256, STYLE.as_bytes()).as_ref());
    let text = format!(
        "default-src 'none'; style-src 'sha256-{hash}'{more_style}; img-src data:; form-action {form_action}; base-uri 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    // A host name of the configuration is ASCII, so this holds; without a form nothing is lost if it did not.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

fn document(brand: &Brand, title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · " (brand.title()) }
                link rel="icon" href=(format!("data:image/svg+xml;base64,{}", BASE64.encode(LOGO.as_bytes())));
                style { (PreEscaped(STYLE)) }
                @if let Some(style) = brand.style() { style { (PreEscaped(style)) } }
            }
            body { (body) }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::access::Credential;
    use crate::rights::{Rights, TenantId, UserId};
    use crate::store::{SessionId, UserKind};

    pub(crate) fn who() -> Principal {
        Principal {
            user: UserId(1),
            tenant: TenantId::DEFAULT,
            kind: UserKind::Person,
            name: "otto".into(),
            credential: Credential::Session(SessionId(1)),
            expires: jiff::Timestamp::MAX,
            as_of: 0,
            rights: Arc::new(Rights::none(TenantId::DEFAULT)),
        }
    }

    #[test]
    fn a_page_stands_alone_and_its_style_is_the_one_allowed() {
        let html = page("A <title>", html! { p { "x" } }).into_string();
        assert!(html.contains("A &lt;title&gt;"));
        let style = html.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
        let hash = BASE64.encode(digest(&SHA256, style.as_bytes()).as_ref());
        assert!(content_security_policy().to_str().unwrap().contains(&format!("style-src 'sha256-{hash}'")));
        for foreign in ["<script", "src=\"http", "href=\"http", "url(", "@import", " style=", " onclick"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_form_may_lead_into_the_zone() {
        let site = Site { console: "c.test".into(), zone: "z.test".into(), port: 8443 };
        let policy = sign_in_policy(&site);
        assert!(policy.to_str().unwrap().contains("form-action 'self' https://*.z.test:8443;"));
    }
}
