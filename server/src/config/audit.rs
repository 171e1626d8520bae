//! `[audit]`: how long entries are kept, and where they are sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parse::path_from;
use super::reader::{Problems, Section};
use crate::audit::forward::{Place, SyslogTo, WebhookTo};

/// Entries are kept for so many days, unless it is said otherwise.
const KEEP_DAYS: u64 = 365;
const DAY: u64 = 24 * 60 * 60;

/// How long entries of the audit are kept, and where they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Older ones are taken away; none for never.
    pub keep: Option<Duration>,
    /// A syslog server.
    pub syslog: Option<SyslogTo>,
    /// A web hook, and the file with the secret that signs what it is sent.
    pub webhook: Option<(WebhookTo, PathBuf)>,
    /// The authorities that vouch for the two; none for the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for Audit {
    fn default() -> Self {
        Self { keep: Some(Duration::from_secs(KEEP_DAYS * DAY)), syslog: None, webhook: None, ca_file: None }
    }
}

pub(super) fn audit(root: &Section<'_>, base: &Path, problems: &mut Problems<'_>) -> Audit {
    let keys = ["keep_days", "syslog", "webhook", "webhook_secret_file", "ca_file"];
    let section = root.section("audit", &keys, problems);
    let days = section.number("keep_days", 0..36_501, problems).unwrap_or(KEEP_DAYS);
    let syslog = section.text("syslog", problems, syslog);
    let webhook = section.text("webhook", problems, webhook);
    let secret = section.text("webhook_secret_file", problems, |text| path_from(base, text));
    let ca_file = section.text("ca_file", problems, |text| path_from(base, text));
    for (key, other) in [("webhook", "webhook_secret_file"), ("webhook_secret_file", "webhook")] {
        if let Some(at) = section.at_key(key).filter(|_| section.at_key(other).is_none()) {
            problems.add(at, format!("`{key}` needs its `{other}`"));
        }
    }
    let keep = (days > 0).then(|| Duration::from_secs(days * DAY));
    Audit { keep, syslog, webhook: webhook.zip(secret), ca_file }
}

fn syslog(text: &str) -> Result<SyslogTo, String> {
    let wrong = || {
        format!(
            "`{text}` is no syslog server; write `unix:/dev/log`, `udp://HOST:514`, `tcp://HOST:601` or `tls://HOST:6514`"
        )
    };
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.starts_with('/') { Ok(SyslogTo::Unix(path.into())) } else { Err(wrong()) };
    }
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    let port = match url.scheme() {
        "udp" => 514,
        "tcp" => 601,
        "tls" => 6514,
        _ => return Err(wrong()),
    };
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
    let host = url.host_str().filter(|host| bare && !host.is_empty()).ok_or_else(wrong)?;
    let (host, port) = (unbracketed(host), url.port().unwrap_or(port));
    Ok(match url.scheme() {
        "udp" => SyslogTo::Udp { host, port },
        scheme => SyslogTo::Stream(Place { host, port, tls: scheme == "tls" }),
    })
}

fn webhook(text: &str) -> Result<WebhookTo, String> {
    let wrong = || format!("`{text}` is no address of a web hook; write `https://HOST/PATH`");
    let url = url::Url::parse(text).map_err(|_| wrong())?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("a web hook's address has no name, password or `#`; it is signed instead".to_owned());
    }
    let tls = match url.scheme() {
        "https" => true,
        "http" => false,
        _ => return Err(wrong()),
    };
    let host = url.host_str().ok_or_else(wrong)?;
    let port = url.port_or_known_default().ok_or_else(wrong)?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    Ok(WebhookTo { place: Place { host: unbracketed(host), port, tls }, path, authority })
}

fn unbracketed(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syslog_server_is_named_in_one_of_four_ways() {
        let stream = |host: &str, port, tls| SyslogTo::Stream(Place { host: host.into(), port, tls });
        for (text, to) in [
            ("unix:/dev/log", SyslogTo::Unix("/dev/log".into())),
            ("udp://log.test", SyslogTo::Udp { host: "log.test".into(), port: 514 }),
            ("tcp://[fd00::1]:1601", stream("fd00::1", 1601, false)),
            ("tls://log.test", stream("log.test", 6514, true)),
        ] {
            assert_eq!(syslog(text), Ok(to), "{text}");
        }
        for bad in ["", "log.test", "unix:log", "http://log.test", "udp://", "udp://log.test/x", "tls://u@log.test"] {
            assert!(syslog(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_web_hook_is_an_address_without_secrets() {
        let hook = webhook("https://hook.test:8443/a?b=c").unwrap();
        assert_eq!((hook.path.as_str(), hook.authority.as_str()), ("/a?b=c", "hook.test:8443"));
        assert_eq!(hook.place, Place { host: "hook.test".into(), port: 8443, tls: true });
        assert_eq!(webhook("http://127.0.0.1/").unwrap().place.port, 80);
        for bad in ["", "hook.test", "ftp://hook.test/", "https://u:p@hook.test/", "https://hook.test/#x"] {
            assert!(webhook(bad).is_err(), "{bad}");
        }
    }
}
