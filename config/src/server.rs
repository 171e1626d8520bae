//! `[server]` and `[identity]`: which server, the way to it, and who calls.

use linkspan_protocol::id::{GatewayName, Secret};

use super::device::name;
use super::files;
use super::problem::Wrong;
use super::reader::Section;
use super::value::{self, HostPort};
use super::{Credential, Files, Identity, Server, Trust};

/// More servers than anybody has, and as many as a router tries in a minute.
const URLS_MAX: usize = 8;

pub(super) fn server(section: Option<Section<'_>>) -> Option<Server> {
    let mut section = section?;
    let reader = section.reader;
    reader.stays(&section, "keepalive_file");
    let urls = urls(&mut section);
    let trust = trust(&mut section);
    let proxy = section.parsed("proxy", value::proxy_url);
    if reader.is_central() && proxy.as_ref().is_some_and(|proxy| proxy.credentials.is_some()) {
        let what = "the password of a proxy stays on the router: its own file says it, for the same proxy";
        reader.error(&section.span_of("proxy"), what, "write http://host:port alone");
    }
    let congestion = section.parsed("congestion", |name| {
        let is_name =
            (1..=15).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        let wrong = || Wrong::new("this is not the name of a congestion control", "write \"bbr\" or \"cubic\"");
        is_name.then(|| Box::from(name)).ok_or_else(wrong)
    });
    if let Some(name) = &congestion
        && reader.is_here()
        && !has_congestion_control(name)
    {
        let what = format!("the kernel has no congestion control {name}, or only for root; the link uses its default");
        reader.warning(
            &section.span_of("congestion"),
            what,
            "load its module (tcp_bbr for \"bbr\"), or remove the key",
        );
    }
    let keepalive_file = section.text("keepalive_file").map(|file| reader.beside(file.get_ref()));
    section.finish();
    let mut urls = urls?.into_iter();
    Some(Server { at: urls.next()?, others: urls.collect(), trust: trust?, proxy, congestion, keepalive_file })
}

/// One url, or a list of them.
fn urls(section: &mut Section<'_>) -> Option<Vec<HostPort>> {
    let reader = section.reader;
    let is_list = section.value("url").is_some_and(|value| value.get_ref().is_array());
    let texts = match is_list {
        true => section.list("url"),
        false => vec![section.required("url", "\"https://remote.example.com\"")?],
    };
    let span = section.span_of("url");
    let mut urls = Vec::with_capacity(texts.len());
    for text in &texts {
        let at = reader.check(&text.span(), value::server_url(text.get_ref()))?;
        if urls.contains(&at) {
            reader.error(&text.span(), "this url is in the list already", "remove it");
        }
        urls.push(at);
    }
    if urls.is_empty() || urls.len() > URLS_MAX {
        let what = format!("`url` lists {} servers", urls.len());
        reader.error(&span, what, format!("list from one to {URLS_MAX}"));
        return None;
    }
    Some(urls)
}

fn trust(section: &mut Section<'_>) -> Option<Trust> {
    let reader = section.reader;
    let ca_file = section.text("ca_file");
    let fingerprint = section.text("fingerprint");
    let authorities = ca_file.as_ref().map(|file| {
        if !reader.is_here() {
            return Some(Trust::Authorities(Vec::new()));
        }
        let certificates = files::certificates(&reader.beside(file.get_ref()));
        reader.check(&file.span(), certificates).map(Trust::Authorities)
    });
    let pinned = fingerprint.map(|text| reader.check(&text.span(), value::fingerprint(text.get_ref())));
    match (pinned, authorities) {
        (Some(pinned), authorities) => {
            if let (Some(_), Some(file)) = (authorities, ca_file) {
                let what = "`ca_file` is not used: with a `fingerprint`, only that certificate counts";
                reader.warning(&file.span(), what, "remove one of the two");
            }
            pinned.map(Trust::Fingerprint)
        }
        (None, Some(authorities)) => authorities,
        (None, None) => Some(Trust::System),
    }
}

pub(super) fn identity(mut section: Section<'_>) -> Option<Identity> {
    let reader = section.reader;
    let text = section.required("name", "\"site12\"");
    let name = text.and_then(|text| name::<GatewayName>(reader, &text));
    let credential = match section.has("certificate_file") || section.has("key_file") {
        true => certificate(&mut section).map(Credential::Certificate),
        false => secret(&mut section).map(Credential::Secret),
    };
    section.finish();
    Some(Identity { name: name?, credential: credential? })
}

fn secret(section: &mut Section<'_>) -> Option<Secret> {
    let reader = section.reader;
    let instead =
        "\"gateway.secret\", the file that holds the shared secret (or enrol: `linkspan-gateway enroll URL CODE`)";
    let file = section.required("secret_file", instead)?;
    let path = reader.beside(file.get_ref());
    let (secret, metadata) = reader.check(&file.span(), files::secret(&path))?;
    if files::open_to_others(&metadata) {
        let what = format!("other users can read the secret in {}", path.display());
        reader.warning(&file.span(), what, format!("chmod 600 {}", path.display()));
    }
    Some(secret)
}

fn certificate(section: &mut Section<'_>) -> Option<Files> {
    let reader = section.reader;
    if section.text("secret_file").is_some() {
        let what = "`secret_file` beside a certificate: a gateway has one of the two";
        reader.error(&section.span_of("secret_file"), what, "remove one of them");
    }
    let certificate = section.required("certificate_file", "\"gateway.pem\"");
    let key = section.required("key_file", "\"gateway.key\"");
    let (certificate, key) = (certificate?, key?);
    let files = Files { certificate: reader.beside(certificate.get_ref()), key: reader.beside(key.get_ref()) };
    if files.certificate == files.key {
        let what = "certificate and key are one file, and each is replaced by itself";
        reader.error(&key.span(), what, "give them two files");
        return None;
    }
    let instead = "enrol: `linkspan-gateway enroll URL CODE`";
    reader.check(&certificate.span(), files.load().map_err(|e| Wrong::new(e.to_string(), instead)))?;
    if std::fs::metadata(&files.key).is_ok_and(|metadata| files::open_to_others(&metadata)) {
        let what = format!("other users can read the key in {}", files.key.display());
        reader.warning(&key.span(), what, format!("chmod 600 {}", files.key.display()));
    }
    Some(files)
}

/// Whether the kernel has that congestion control, and lets this process use it.
fn has_congestion_control(name: &str) -> bool {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    socket.is_ok_and(|socket| socket.set_tcp_congestion(name.as_bytes()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_which_congestion_controls_it_has() {
        assert!(has_congestion_control("reno") && !has_congestion_control("no-such-algorithm"));
    }
}
