//! Questions to the provider over HTTPS: one connection each, no redirects, everything bounded.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use ::http::{HeaderValue, Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use url::Url;

/// For one whole answer, from the connection on.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest answer: keys and claims are a few kilobytes.
const BODY_MAX: usize = 256 * 1024;

/// Asks with the provider's authority.
pub(super) struct Http {
    pub(super) tls: Arc<ClientConfig>,
}

/// A question.
pub(super) struct Question<'q> {
    pub(super) url: &'q str,
    /// `Authorization`, if there is one.
    pub(super) authorization: Option<HeaderValue>,
    /// A form to post; without one it is a GET.
    pub(super) form: Option<String>,
}

impl Http {
    /// The answer, if it is one in JSON.
    pub(super) async fn ask<T: DeserializeOwned>(&self, question: Question<'_>) -> Result<T, String> {
        let url = question.url.to_owned();
        match tokio::time::timeout(ANSWER, self.answer(question)).await {
            Ok(Ok(body)) => serde_json::from_slice(&body).map_err(|error| format!("{url}: {error}")),
            Ok(Err(error)) => Err(format!("{url}: {error}")),
            Err(_) => Err(format!("{url}: no answer within {} s", ANSWER.as_secs())),
        }
    }

    async fn answer(&self, question: Question<'_>) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let url = Url::parse(question.url)?;
        let host = url.host_str().filter(|_| url.scheme() == "https").ok_or("it is not https")?;
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), url.port().unwrap_or(443))).await?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let tls = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await?;
        let mut driver = JoinSet::new();
        // A failure of the connection is told by the request that waits for it.
        driver.spawn(async move { drop(connection.await) });
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let mut request = Request::builder()
            .method(if question.form.is_some() { Method::POST } else { Method::GET })
            .uri(target)
            .header(HOST, authority)
            .header(USER_AGENT, "linkspan-server")
            .header(ACCEPT, "application/json");
        if question.form.is_some() {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(authorization) = question.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = Full::new(Bytes::from(question.form.unwrap_or_default()));
        let response = sender.send_request(request.body(body)?).await?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()).into());
        }
        Ok(Limited::new(response.into_body(), BODY_MAX).collect().await?.to_bytes())
    }
}
