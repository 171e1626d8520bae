//! `[server]` and `[identity]`: which server, the way to it, and who calls.

use linkspan_protocol::id::GatewayName;

use super::device::name;
use super::files;
use super::reader::Section;
use super::value;
use super::{Identity, Server, Trust};

pub(super) fn server(mut section: Section<'_>) -> Option<Server> {
    let reader = section.reader;
    let url = section.required("url", "\"https://remote.example.com\"");
    let at = url.and_then(|url| reader.check(&url.span(), value::server_url(url.get_ref())));
    let trust = trust(&mut section);
    let proxy = section.parsed("proxy", value::proxy_url);
    section.finish();
    Some(Server { at: at?, trust: trust?, proxy })
}

fn trust(section: &mut Section<'_>) -> Option<Trust> {
    let reader = section.reader;
    let ca_file = section.text("ca_file");
    let fingerprint = section.text("fingerprint");
    let authorities = ca_file.as_ref().map(|file| {
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
    let wants_certificate = section.has("certificate_file") || section.has("key_file");
    for key in ["certificate_file", "key_file"] {
        if section.value(key).is_some() {
            let what = format!("`{key}`: this version does not enrol with a certificate yet");
            reader.error(&section.span_of(key), what, "write secret_file = \"gateway.secret\"");
        }
    }
    let file = match wants_certificate {
        true => section.text("secret_file"),
        false => section.required("secret_file", "\"gateway.secret\", the file that holds the shared secret"),
    };
    let secret = file.and_then(|file| {
        let path = reader.beside(file.get_ref());
        let (secret, metadata) = reader.check(&file.span(), files::secret(&path))?;
        if files::open_to_others(&metadata) {
            let what = format!("other users can read the secret in {}", path.display());
            reader.warning(&file.span(), what, format!("chmod 600 {}", path.display()));
        }
        Some(secret)
    });
    section.finish();
    Some(Identity { name: name?, secret: secret? })
}
