//! A web hook: rows as JSON in a POST, signed with a secret that both sides know.

use std::path::Path;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use ring::hmac;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::dial::{self, Place};
use super::{Destination, DialError, SendError};
use crate::audit::Row;
use crate::audit::view::RowView;

/// Signs `TIME.BODY`: `t=TIME,v1=HMAC-SHA256`, in hexadecimal.
const SIGNATURE: &str = "linkspan-signature";
/// Bytes of an answer that are read, to leave the connection clean.
const ANSWER_MAX: usize = 64 * 1024;

/// Where the rows go. The administrator names it in the server's own file, so it may lead anywhere the server can reach,
/// also to this machine; redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTo {
    /// Whom to connect to.
    pub place: Place,
    /// The path, with its query.
    pub path: String,
    /// As `Host` has it.
    pub authority: String,
}

/// Sends rows to a web hook.
pub struct Webhook {
    to: WebhookTo,
    key: hmac::Key,
    tls: Option<TlsConnector>,
}

impl Webhook {
    /// To there, signed with this secret.
    pub fn new(to: WebhookTo, secret: &Secret, ca_file: Option<&Path>) -> Result<Self, DialError> {
        let tls = if to.place.tls { Some(dial::connector(ca_file)?) } else { None };
        Ok(Self { to, key: hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()), tls })
    }
}

impl Destination for Webhook {
    const NAME: &'static str = "webhook";

    async fn send(&mut self, rows: &[Row]) -> Result<(), SendError> {
        let entries: Vec<RowView> = rows.iter().map(RowView::from).collect();
        let body = serde_json::json!({ "entries": entries }).to_string();
        let time = Timestamp::now().as_second();
        let request = Request::post(&self.to.path)
            .header(HOST, &self.to.authority)
            .header(USER_AGENT, concat!("linkspan-server/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(SIGNATURE, signature(&self.key, time, &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| DialError::Name(self.to.authority.clone()))?;
        let io = TokioIo::new(dial::dial(&self.to.place, self.tls.as_ref()).await?);
        let (mut sender, connection) = http1::handshake(io).await?;
        let mut driver = JoinSet::new();
        // A failure of the connection is also told by the request that waits for it.
        driver.spawn(async { drop(connection.await) });
        let response = sender.send_request(request).await?;
        let status = response.status();
        // What it says is nobody's concern.
        let _ = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        if taken(status) { Ok(()) } else { Err(SendError::Answer(status)) }
    }
}

fn taken(status: StatusCode) -> bool {
    status.is_success()
}

fn signature(key: &hmac::Key, time: i64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{time}.{body}").as_bytes());
    format!("t={time},v1={}", HEXLOWER.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_covers_time_and_body() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        // printf '7.{}' | openssl dgst -sha256 -hmac secret
        let known = "t=7,v1=76aad9429f417882918162a1928a38769fff65cc07b6bfa344ac9c5fb1e3448e";
        assert_eq!(signature(&key, 7, "{}"), known);
        assert_ne!(signature(&key, 8, "{}"), known.replace("t=7", "t=8"));
    }
}
