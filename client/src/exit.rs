//! Exit codes (sysexits.h), and which failure ends with which.

use crate::account::AccountError;
use crate::carry::CarryError;
use crate::connect::NoService;
use crate::credentials::CredentialsError;
use crate::login::LoginError;
use crate::server::{AddressError, ApiError, DialError, ProxyError, TrustError};

/// The command line is wrong.
pub(crate) const USAGE: u8 = 64;
/// The server, the gateway or the device cannot be reached or does not do it.
pub(crate) const UNAVAILABLE: u8 = 69;
/// Something in this program that should not happen.
const SOFTWARE: u8 = 70;
/// Standard input or output failed.
const IO: u8 = 74;
/// Not permitted, or not signed in.
const NO_PERMISSION: u8 = 77;
/// Configuration: credentials, certificate authorities, proxy.
const CONFIGURATION: u8 = 78;

/// Ctrl-C, as a shell tells it.
const INTERRUPTED: u8 = 130;

/// A wrong command line that only shows when the command runs.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The exit code for a failure.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(SOFTWARE)
}

fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if error.is::<Usage>() || error.is::<AddressError>() {
        return Some(USAGE);
    }
    if error.is::<TrustError>() || error.is::<CredentialsError>() {
        return Some(CONFIGURATION);
    }
    if error.is::<NoService>() {
        return Some(UNAVAILABLE);
    }
    if let Some(error) = error.downcast_ref() {
        return Some(of_account(error));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(of_api(error));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(of_dial(error));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(of_carry(error));
    }
    if let Some(error) = error.downcast_ref() {
        return Some(of_login(error));
    }
    error.is::<std::io::Error>().then_some(IO)
}

fn of_account(error: &AccountError) -> u8 {
    match error {
        AccountError::NoServer
        | AccountError::NotSignedIn(_)
        | AccountError::SignInEnded(_)
        | AccountError::TokenRefused(_) => NO_PERMISSION,
        AccountError::Address(_) => USAGE,
        AccountError::Credentials(_) | AccountError::Trust(_) => CONFIGURATION,
    }
}

fn of_api(error: &ApiError) -> u8 {
    match error {
        ApiError::Dial(error) => of_dial(error),
        ApiError::Refused(refusal) if matches!(refusal.status.as_u16(), 401 | 403) => NO_PERMISSION,
        ApiError::TokenMalformed => CONFIGURATION,
        ApiError::Refused(_) | ApiError::Garbled { .. } | ApiError::Silent(_) | ApiError::NotLinkspan { .. } => {
            UNAVAILABLE
        }
    }
}

fn of_dial(error: &DialError) -> u8 {
    match error {
        DialError::UnknownAuthority(_) => CONFIGURATION,
        DialError::Proxy(ProxyError::Malformed | ProxyError::Scheme(_)) => CONFIGURATION,
        DialError::Proxy(ProxyError::Refused { .. } | ProxyError::Garbled { .. })
        | DialError::Lookup { .. }
        | DialError::Connect { .. }
        | DialError::Silent(_)
        | DialError::WrongName(_)
        | DialError::WrongTime(_)
        | DialError::Tls { .. } => UNAVAILABLE,
    }
}

fn of_login(error: &LoginError) -> u8 {
    match error {
        LoginError::Wrong(_) | LoginError::WrongCode(_) | LoginError::CodeNeeded(_) => NO_PERMISSION,
        LoginError::Throttled { .. } => UNAVAILABLE,
        LoginError::Interrupted => INTERRUPTED,
    }
}

fn of_carry(error: &CarryError) -> u8 {
    match error {
        CarryError::Ended(_) | CarryError::Lost(_) | CarryError::Cut => UNAVAILABLE,
        CarryError::Input(_) | CarryError::Output(_) => IO,
    }
}
