//! Enrolment: a router shows a code and a public key, and gets a certificate for the name that the server decides.
//!
//! One HTTPS request, `POST /api/v1/enroll`, in JSON; the same request again brings the same answer, so an answer that
//! was lost is asked for again, and one that is not decided yet is asked for until it is. A gateway renews its certificate
//! with the same request, over a connection that shows the old one.

use serde::{Deserialize, Serialize};

use crate::id::{GatewayName, Secret};

/// The path that a router asks for.
pub const ENROL_PATH: &str = "/api/v1/enroll";
/// Longest code or provisioning key, in bytes.
pub const CODE_MAX: usize = 128;

/// What a router asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// A claim code, or a provisioning key; absent in a renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Secret>,
    /// The router's public key: a point on P-256, uncompressed (SEC 1), in base64.
    pub public_key: String,
    /// Its signature (ECDSA with SHA-256, ASN.1, in base64) over [`statement`]: proof that it has the key.
    pub proof: String,
    /// With a provisioning key: the name that the router proposes. In a renewal: its own. A claim code has its name
    /// already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<GatewayName>,
    /// Program and version, for people.
    pub agent: String,
}

/// What a router gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    /// The name in the certificate: the server's decision.
    pub name: GatewayName,
    /// The certificate in PEM.
    pub certificate: String,
    /// SHA-256 of the public keys by which the server can be known, as `sha256:` and 64 digits.
    pub server_keys: Vec<String>,
    /// The authority of the server's own certificate in PEM, where it is not one that everybody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_ca: Option<String>,
    /// The public key by which other versions of the gateway's program are signed, as signify writes it, if the server has one.
    /// It is not replaced by anything that the server says later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_key: Option<String>,
    /// The server's clock, in seconds since 1970-01-01 UTC.
    pub time: u64,
}

impl EnrolRequest {
    /// What the new key signs, together with itself: the code, or in a renewal the name.
    pub fn occasion(&self) -> &str {
        match &self.code {
            Some(code) => code.expose(),
            None => self.name.as_ref().map_or("", GatewayName::as_str),
        }
    }
}

/// What is signed to prove the possession of a key: it names its purpose and its occasion, so that a signature for one is
/// good for no other.
pub fn statement(occasion: &str, public_key: &[u8]) -> Vec<u8> {
    [b"linkspan certificate request 1\n", occasion.as_bytes(), b"\n", public_key].concat()
}
