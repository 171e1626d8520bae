//! Answers on the plain port: names of ours are sent to https, everything else is unknown.

use http::header::{HOST, LOCATION};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::body::{self, Body};
use super::connection::{Answers, Peer};
use super::fault::Fault;
use super::pages;
use super::target::{Site, Target, host_of};

/// Sends people from http to https.
#[derive(Clone, Debug)]
pub struct Redirect(pub Site);

impl Answers for Redirect {
    async fn answer(&self, request: Request<Incoming>, _peer: &Peer) -> Response<Body> {
        match self.location(&request) {
            Some(location) => match Response::builder()
                .status(StatusCode::PERMANENT_REDIRECT)
                .header(LOCATION, location)
                .body(body::empty())
            {
                Ok(response) => response,
                Err(_) => {
                    pages::answer(&Fault::BadRequest("the address cannot be written in a header"), request.headers())
                }
            },
            None => pages::answer(&Fault::Unknown, request.headers()),
        }
    }
}

impl Redirect {
    /// The https address of the same page, if the host is one of ours.
    fn location<B>(&self, request: &Request<B>) -> Option<String> {
        let authority = request.headers().get(HOST)?.to_str().ok()?;
        match self.0.target(authority) {
            Target::Console | Target::Device { .. } => {}
            Target::Address | Target::Unknown => return None,
        }
        let host = host_of(authority)?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        // Not what was asked for but a path follows: `//evil.example` must stay a path of this host.
        path.starts_with('/').then(|| format!("https://{}{path}", self.0.authority(&host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(host: &str, path: &str) -> Option<String> {
        let site = Site { console: "remote.example.com".into(), zone: "devices.example.net".into(), port: 8443 };
        Redirect(site).location(&Request::get(path).header(HOST, host).body(()).unwrap())
    }

    #[test]
    fn path_and_query_are_kept() {
        let expected = "https://plc1.devices.example.net:8443/a/../b?x=1&y=%2f";
        assert_eq!(location("PLC1.devices.example.net:8080", "/a/../b?x=1&y=%2f").as_deref(), Some(expected));
        assert_eq!(location("remote.example.com", "//evil").as_deref(), Some("https://remote.example.com:8443//evil"));
    }

    #[test]
    fn others_are_not_redirected() {
        for host in ["evil.example", "127.0.0.1", "localhost", "devices.example.net"] {
            assert_eq!(location(host, "/"), None, "{host}");
        }
    }
}
