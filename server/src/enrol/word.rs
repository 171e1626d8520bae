//! New codes and keys, shown once and kept as hashes.

use linkspan_protocol::code::ClaimCode;
use linkspan_protocol::id::Secret;

use crate::access::gateway_secret;

/// A claim code.
///
/// # Errors
/// The system has no source of randomness.
pub fn claim_code() -> Result<ClaimCode, getrandom::Error> {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes)?;
    Ok(ClaimCode::from_random(bytes))
}

/// A provisioning key: 256 random bits, and a word in front that tells it from a claim code.
pub fn provisioning_key() -> Secret {
    Secret::new(format!("pk-{}", gateway_secret().expose()))
}
