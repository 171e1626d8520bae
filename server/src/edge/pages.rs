//! A small clear answer for each failure: a page for browsers, JSON (RFC 9457) when asked, plain text otherwise.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ORIGIN, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use maud::{Markup, html};

use super::body::{self, Body};
use super::fault::{Fault, Words};
use crate::ui::{self, Part};

/// Tells programs what went wrong; an answer without it came from the device.
pub const ERROR_HEADER: HeaderName = HeaderName::from_static("linkspan-error");

/// What an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A page; whether asking for the same address again makes sense.
    Html {
        /// It does not after a form was sent: the form would be missing.
        again: bool,
    },
    /// `application/problem+json`.
    Json,
    /// Plain text.
    Text,
}

/// The answer to a request that failed, in the form its `Accept` prefers.
pub fn answer(fault: &Fault, request: &HeaderMap) -> Response<Body> {
    answer_as(fault, form(request))
}

/// The answer to a request that failed, in this form.
pub fn answer_as(fault: &Fault, form: Form) -> Response<Body> {
    let words = fault.words();
    let (kind, text) = match form {
        Form::Html { again } => ("text/html; charset=utf-8", page(fault, &words, again).into_string()),
        Form::Json => ("application/problem+json", problem(&words)),
        Form::Text => ("text/plain; charset=utf-8", format!("{}. {} {}\n", words.title, words.text, words.advice)),
    };
    let mut response = Response::new(body::full(text));
    *response.status_mut() = words.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ERROR_HEADER, HeaderValue::from_static(words.code));
    if let Some(seconds) = words.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if matches!(form, Form::Html { .. }) {
        headers.insert(CONTENT_SECURITY_POLICY, ui::content_security_policy());
    }
    response
}

/// Which form an `Accept` prefers: the higher weight wins, a page before JSON before text.
pub fn form(request: &HeaderMap) -> Form {
    // Browsers name the origin of a form that they send, and of a page that they just go to they do not.
    let page = Form::Html { again: !request.contains_key(ORIGIN) };
    let mut best = (0, Form::Text);
    for range in request.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let form = match parts.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "text/html" | "application/xhtml+xml" => page,
            "application/json" | "application/problem+json" => Form::Json,
            "text/plain" => Form::Text,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |q| q.parse::<f32>().ok());
        let weight = weight.unwrap_or(0.0).clamp(0.0, 1.0);
        if weight == 0.0 {
            continue;
        }
        let order = match form {
            Form::Html { .. } => 2,
            Form::Json => 1,
            Form::Text => 0,
        };
        // Thousandths are all that a weight may have (RFC 9110, section 12.4.2).
        let rank = (weight * 1000.0) as u32 * 4 + order;
        if rank > best.0 {
            best = (rank, form);
        }
    }
    best.1
}

fn page(fault: &Fault, words: &Words, again: bool) -> Markup {
    ui::page(
        words.title,
        html! {
            @if let Some(part) = broken_part(fault) { (ui::way(part)) }
            h1 { (words.title) }
            p { (words.text) }
            p.soft { (words.advice) }
            @if let Some((to, text)) = way_on(fault, again) { p { a.button href=(to) { (text) } } }
            p.soft.small { (words.status.as_u16()) " · " (words.code) }
        },
    )
}

/// Where the way to the device is broken; nothing is drawn where it is not, or where that would say whether there is one.
fn broken_part(fault: &Fault) -> Option<Part> {
    match fault {
        Fault::Unknown
        | Fault::NotAPage
        | Fault::NotAllowed
        | Fault::ViewOnly
        | Fault::SignIn
        | Fault::ForbiddenOrigin
        | Fault::Ended(_) => None,
        Fault::Misdirected | Fault::BadRequest(_) => Some(Part::Person),
        Fault::RequestTimeout => Some(Part::Internet),
        Fault::Internal => Some(Part::Server),
        Fault::Offline(_) | Fault::LinkLost(_) | Fault::DataCap(_) => Some(Part::Link),
        Fault::StreamLimit(_) | Fault::GatewayFull | Fault::Gateway(_) | Fault::NotListed => Some(Part::Gateway),
        Fault::Unreachable | Fault::ConnectTimeout | Fault::NameNotFound => Some(Part::Lan),
        Fault::Refused | Fault::AnswerTimeout | Fault::DeviceReset | Fault::Garbage(_) | Fault::Tls(_) => {
            Some(Part::Device)
        }
    }
}

/// Where a person can go from here: an address, and what is written on the button.
fn way_on(fault: &Fault, again: bool) -> Option<(&'static str, &'static str)> {
    match fault {
        Fault::SignIn => Some(("/", "Sign in")),
        Fault::ForbiddenOrigin => Some(("/", "Open the device")),
        Fault::Unknown
        | Fault::NotAPage
        | Fault::NotAllowed
        | Fault::ViewOnly
        | Fault::Misdirected
        | Fault::BadRequest(_)
        | Fault::DataCap(_) => None,
        // An empty address is that of the page itself.
        _ => again.then_some(("", "Try again")),
    }
}

fn problem(words: &Words) -> String {
    serde_json::json!({
        "type": "about:blank",
        "title": words.title,
        "status": words.status.as_u16(),
        "detail": words.text,
        "advice": words.advice,
        "code": words.code,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form_of(accept: &str) -> Form {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        form(&headers)
    }

    #[test]
    fn the_form_follows_accept() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        assert_eq!(form_of(browser), Form::Html { again: true });
        let sent = HeaderMap::from_iter([(ACCEPT, browser.parse().unwrap()), (ORIGIN, "null".parse().unwrap())]);
        assert_eq!(form(&sent), Form::Html { again: false });
        assert_eq!(form_of("application/json"), Form::Json);
        assert_eq!(form_of("application/json, text/html;q=0.5"), Form::Json);
        assert_eq!(form_of("application/problem+json;q=0.2"), Form::Json);
        assert_eq!(form_of("*/*"), Form::Text);
        assert_eq!(form_of("text/html;q=0"), Form::Text);
        assert_eq!(form_of(";;q=,,\u{fc}"), Form::Text);
        assert_eq!(form(&HeaderMap::new()), Form::Text);
    }

    #[test]
    fn what_a_device_says_is_text_on_the_page() {
        let fault = Fault::Garbage("<script>alert(1)</script>".into());
        let html = page(&fault, &fault.words(), true).into_string();
        assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
        assert!(!html.contains("<script"), "{html}");
    }

    #[test]
    fn each_fault_has_its_own_code() {
        let faults = [
            Fault::Unknown,
            Fault::Misdirected,
            Fault::BadRequest("x"),
            Fault::RequestTimeout,
            Fault::SignIn,
            Fault::ForbiddenOrigin,
            Fault::NotAPage,
            Fault::NotAllowed,
            Fault::ViewOnly,
            Fault::Offline(None),
            Fault::StreamLimit(7),
            Fault::GatewayFull,
            Fault::Gateway(String::new()),
            Fault::NotListed,
            Fault::Refused,
            Fault::Unreachable,
            Fault::ConnectTimeout,
            Fault::AnswerTimeout,
            Fault::NameNotFound,
            Fault::DeviceReset,
            Fault::Garbage(String::new()),
            Fault::Tls(String::new()),
            Fault::LinkLost("<script>".into()),
            Fault::Ended(String::new()),
            Fault::DataCap(String::new()),
            Fault::Internal,
        ];
        let codes: std::collections::BTreeSet<_> = faults.iter().map(|fault| fault.words().code).collect();
        assert_eq!(codes.len(), faults.len());
        for fault in &faults {
            let response = answer_as(fault, Form::Json);
            assert_eq!(response.headers()[ERROR_HEADER], fault.words().code);
        }
    }
}
