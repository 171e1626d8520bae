//! All that can go wrong between a browser and a device: the status, the code for programs, and the words for people.

use http::StatusCode;
use jiff::Timestamp;

use crate::ui::{NOT_FOUND, how_long};

/// Why a request was not answered by the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No such host, device or service; or one that this person may not know about.
    Unknown,
    /// The host in the request is not the one the TLS connection was made for.
    Misdirected,
    /// The request itself is wrong.
    BadRequest(&'static str),
    /// The request's body did not arrive in time.
    RequestTimeout,
    /// Nobody has signed in.
    SignIn,
    /// Another site's page tried to use this device.
    ForbiddenOrigin,
    /// The visitor may see the device, but not use this service.
    NotAllowed,
    /// The visitor may look, but not change anything.
    ViewOnly,
    /// The service exists, but is not a web page.
    NotAPage,
    /// The device's gateway is not connected.
    Offline(Option<Timestamp>),
    /// The gateway carries as many streams as it may.
    StreamLimit(u32),
    /// The gateway says that it has no room for another stream.
    GatewayFull,
    /// The gateway failed to do its part, and says so.
    Gateway(String),
    /// The gateway's configuration does not list the service (any more).
    NotListed,
    /// Nothing listens on the device's port.
    Refused,
    /// The device cannot be reached on its LAN.
    Unreachable,
    /// The gateway could not connect to the device in time.
    ConnectTimeout,
    /// The device took the request and did not answer in time.
    AnswerTimeout,
    /// The device's name is not known on its LAN.
    NameNotFound,
    /// The device closed or reset the connection before its answer was complete.
    DeviceReset,
    /// The device answered with something that is not HTTP.
    Garbage(String),
    /// The device's certificate or its TLS was not accepted.
    Tls(String),
    /// The link to the gateway was lost, and why the session did not go on.
    LinkLost(String),
    /// The connection was ended on purpose: the right to it was withdrawn.
    Ended(String),
    /// The month's data of the gateway is used up.
    DataCap(String),
    /// The server's own fault.
    Internal,
}

/// What a page says about a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code in `Linkspan-Error`, for programs.
    pub code: &'static str,
    /// The headline.
    pub title: &'static str,
    /// What happened, and whose fault it is.
    pub text: String,
    /// What to do about it.
    pub advice: &'static str,
    /// Seconds after which another attempt makes sense.
    pub retry_after: Option<u32>,
}

impl Fault {
    /// The status, the code and the words.
    pub fn words(&self) -> Words {
        match self {
            Self::Unknown
            | Self::Misdirected
            | Self::BadRequest(_)
            | Self::RequestTimeout
            | Self::SignIn
            | Self::ForbiddenOrigin
            | Self::NotAllowed
            | Self::ViewOnly
            | Self::NotAPage => self.of_request(),
            Self::Offline(_)
            | Self::StreamLimit(_)
            | Self::GatewayFull
            | Self::Gateway(_)
            | Self::NotListed
            | Self::LinkLost(_)
            | Self::Internal => self.of_path(),
            Self::Ended(why) => ended(why),
            Self::DataCap(what) => data_cap(what),
            _ => self.of_device(),
        }
    }

    /// What somebody may not do, although they may know that it can be done.
    fn of_rights(&self) -> Words {
        if *self == Self::ViewOnly {
            return words(
                StatusCode::FORBIDDEN,
                "view-only",
                "You may only look",
                "You may look at this device's pages, but this would have changed something or opened a live connection.",
                "Ask whoever looks after the devices if you need more.",
            );
        }
        words(
            StatusCode::FORBIDDEN,
            "not-allowed",
            "Not for you",
            "You may see that this device is there, but not use this service of it, or not now.",
            "Ask whoever looks after the devices to grant it to you.",
        )
    }

    /// Faults of the person or program that asks.
    fn of_request(&self) -> Words {
        match self {
            Self::Misdirected => words(
                StatusCode::MISDIRECTED_REQUEST,
                "misdirected",
                "Wrong connection",
                "The connection was made for another host name than the one asked for.",
                "Ask again on a new connection.",
            ),
            Self::BadRequest(what) => words(
                StatusCode::BAD_REQUEST,
                "bad-request",
                "The request is not valid",
                format!("The request was not passed on: {what}."),
                "The fault is in the program that sent it.",
            ),
            Self::RequestTimeout => words(
                StatusCode::REQUEST_TIMEOUT,
                "request-timeout",
                "The request did not arrive in time",
                "The rest of the request did not come.",
                "Check your own connection and try again.",
            ),
            Self::SignIn => words(
                StatusCode::UNAUTHORIZED,
                "sign-in-needed",
                "Please sign in",
                "This address is for people who have signed in.",
                "Open the page in a browser to sign in, or send a token as `Linkspan-Authorization: Bearer …`.",
            ),
            Self::ForbiddenOrigin => words(
                StatusCode::FORBIDDEN,
                "forbidden-origin",
                "Another site asked",
                "A page of another site tried to use this device through your browser, and was stopped.",
                "If you trust that page, open this device yourself and try from there.",
            ),
            Self::NotAllowed | Self::ViewOnly => self.of_rights(),
            Self::NotAPage => words(
                StatusCode::NOT_FOUND,
                "not-a-page",
                "This service has no page",
                "The device is known, but there is no web page at this address.",
                "The console lists the device's services and how to reach each.",
            ),
            _ => words(
                StatusCode::NOT_FOUND,
                "not-found",
                "Not found",
                NOT_FOUND,
                "Check the spelling, or ask whoever looks after the devices.",
            ),
        }
    }

    /// Faults between us and the device.
    fn of_path(&self) -> Words {
        match self {
            Self::Offline(since) => {
                let text = format!("The gateway at the device's site is not connected. {}", seen(*since));
                let advice = "It comes back by itself when it has power and a mobile or Internet connection.";
                words(StatusCode::SERVICE_UNAVAILABLE, "gateway-offline", "The gateway is offline", text, advice)
                    .retry(30)
            }
            Self::StreamLimit(limit) => words(
                StatusCode::TOO_MANY_REQUESTS,
                "stream-limit",
                "Too much at once",
                format!("The device's gateway already carries {limit} connections, as many as it may."),
                "Close pages you do not need, or try again in a moment.",
            )
            .retry(5),
            Self::GatewayFull => words(
                StatusCode::TOO_MANY_REQUESTS,
                "gateway-full",
                "Too much at once",
                "The device's gateway has no room for another connection.",
                "Close pages you do not need, or try again in a moment.",
            )
            .retry(5),
            Self::Gateway(what) => words(
                StatusCode::BAD_GATEWAY,
                "gateway-failed",
                "The gateway could not do it",
                format!("The device's gateway could not do its part: {what}"),
                "Try again; if it stays, look at the gateway's log.",
            ),
            Self::NotListed => words(
                StatusCode::BAD_GATEWAY,
                "not-listed",
                "The gateway does not offer this",
                "The gateway's configuration does not list this service, so it did not open it.",
                "Add the service to the gateway's configuration, or wait for the list to be brought up to date.",
            ),
            Self::LinkLost(why) => words(
                StatusCode::BAD_GATEWAY,
                "link-lost",
                "The link to the gateway was lost",
                lost(why),
                "The gateway reconnects by itself; try again in a moment.",
            )
            .retry(5),
            _ => words(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something is wrong here",
                "The server could not do its part. Neither you nor the device are at fault.",
                "Try again; if it stays, tell whoever runs this server.",
            ),
        }
    }

    /// Faults of the device, or of its LAN.
    fn of_device(&self) -> Words {
        let gateway = StatusCode::BAD_GATEWAY;
        match self {
            Self::Refused => words(
                gateway,
                "device-refused",
                "The device refuses",
                "The gateway is connected, but nothing listens on the device's port.",
                "Check that the service runs on the device, and the port in the gateway's configuration.",
            ),
            Self::Unreachable => words(
                gateway,
                "device-unreachable",
                "The device cannot be reached",
                "The gateway is connected, but cannot reach the device's address on its LAN.",
                "Check that the device has power, its cable, and its address in the gateway's configuration.",
            ),
            Self::ConnectTimeout => words(
                StatusCode::GATEWAY_TIMEOUT,
                "device-timed-out",
                "The device does not answer",
                "The gateway is connected, but the device did not accept a connection in time.",
                "Check that the device has power and its cable; a firewall on it may drop the packets.",
            ),
            Self::AnswerTimeout => words(
                StatusCode::GATEWAY_TIMEOUT,
                "answer-timed-out",
                "The device takes too long",
                "The device accepted the request, but sent no answer within 60 seconds.",
                "It may be busy, or hang: try again, or restart the device.",
            ),
            Self::NameNotFound => words(
                gateway,
                "name-not-found",
                "The device's name is not known",
                "The gateway is connected, but the device's name is not known on its LAN.",
                "Check the name in the gateway's configuration, or write the address there.",
            ),
            Self::Garbage(what) => words(
                gateway,
                "device-garbage",
                "The device does not speak HTTP",
                format!("The device answered with something that is not HTTP: {what}."),
                "Check that the port in the gateway's configuration is that of the web page.",
            ),
            Self::Tls(what) => words(
                gateway,
                "device-tls",
                "No secure connection to the device",
                format!("The device's TLS was not accepted: {what}."),
                "Check the service's `verify` in the gateway's configuration.",
            ),
            _ => words(
                gateway,
                "device-reset",
                "The device broke off",
                "The device closed the connection before its answer was complete.",
                "Try again; if it stays, the device may be overloaded or faulty.",
            ),
        }
    }
}

fn seen(last: Option<Timestamp>) -> String {
    let Some(last) = last else { return "It has not been seen yet.".to_owned() };
    let at = last.strftime("%Y-%m-%d %H:%M:%S UTC");
    match how_long(last, Timestamp::now()) {
        Some(time) => format!("It was last seen {time} ago, at {at}."),
        None => format!("It was last seen a moment ago, at {at}."),
    }
}

/// Somebody decided so.
fn ended(why: &str) -> Words {
    words(
        StatusCode::FORBIDDEN,
        "ended",
        "The connection was ended",
        format!("The connection to the device was ended on purpose: {why}"),
        "Ask whoever looks after the devices if you still need it.",
    )
}

fn data_cap(what: &str) -> Words {
    words(
        StatusCode::TOO_MANY_REQUESTS,
        "data-cap",
        "The month's data is used up",
        format!("The device's gateway carries no more data this month: {what}"),
        "Wait for the next month, or ask whoever looks after the devices to lift the cap.",
    )
    .retry(3600)
}

fn lost(why: &str) -> String {
    let why = if why.is_empty() { "nobody said why" } else { why };
    format!("The link to the device's gateway was lost: {why}.")
}

fn words(
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    text: impl Into<String>,
    advice: &'static str,
) -> Words {
    Words { status, code, title, text: text.into(), advice, retry_after: None }
}

impl Words {
    fn retry(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}
