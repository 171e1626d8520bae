//! The way from a person to a device, drawn, so that one sees at a glance where it is broken.

use maud::{Markup, html};

/// A part of the way, in the order in which a request meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The person, or the program they use.
    Person,
    /// Between the person and the server.
    Internet,
    /// The server.
    Server,
    /// Between the server and the gateway.
    Link,
    /// The gateway.
    Gateway,
    /// Between the gateway and the device.
    Lan,
    /// The device.
    Device,
}

use Part::{Device, Gateway, Internet, Lan, Link, Person, Server};

/// From the middle of one stop to that of the next.
const STEP: u16 = 104;
/// The middle of the first.
const FIRST: u16 = 46;

/// The whole way, broken at that part: what lies before it works, what lies behind it cannot be known.
pub(crate) fn way(broken: Part) -> Markup {
    let lines = [(0, Internet), (1, Link), (2, Lan)];
    let stops = [(0, Person, "You"), (1, Server, "Server"), (2, Gateway, "Gateway"), (3, Device, "Device")];
    html! {
        svg.way viewBox="14 6 376 80" role="img" aria-label=(in_words(broken)) {
            @for (before, part) in lines {
                g class=(state(part, broken)) {
                    line x1=(FIRST + STEP * before + 30) x2=(FIRST + STEP * (before + 1) - 30) y1="34" y2="34" {}
                    @if part == broken { (cross(FIRST + STEP * before + STEP / 2, 34)) }
                }
            }
            @for (place, part, name) in stops {
                @let x = FIRST + STEP * place;
                g class=(state(part, broken)) {
                    circle.ring cx=(x) cy="34" r="24" {}
                    g transform=(format!("translate({x} 34)")) { (icon(part)) }
                    @if part == broken { (cross(x + 18, 16)) }
                    text x=(x) y="80" { (name) }
                }
            }
        }
    }
}

fn state(part: Part, broken: Part) -> &'static str {
    match part.cmp(&broken) {
        std::cmp::Ordering::Less => "fine",
        std::cmp::Ordering::Equal => "broken",
        std::cmp::Ordering::Greater => "beyond",
    }
}

fn in_words(broken: Part) -> &'static str {
    match broken {
        Person => "The fault is on your side, before the server.",
        Internet => "The fault is between you and the server.",
        Server => "The fault is the server's. You are not at fault.",
        Link => "The fault is between the server and the gateway. You and the server are fine.",
        Gateway => "The fault is the gateway's. You and the server are fine.",
        Lan => "The fault is between the gateway and the device. You, the server and the gateway are fine.",
        Device => "The fault is the device's. You, the server and the gateway are fine.",
    }
}

fn cross(x: u16, y: u16) -> Markup {
    html! {
        g.cross transform=(format!("translate({x} {y})")) {
            circle r="9" {}
            path d="M-3.500-3.500 3.500 3.500M3.500-3.500-3.500 3.500" {}
        }
    }
}

/// Drawn around the middle of its stop.
fn icon(part: Part) -> Markup {
    let shape = match part {
        Person => "M-4.500-5a4.500 4.500 0 1 0 9 0a4.500 4.500 0 1 0-9 0M-9.500 11c0-6 4-9 9.500-9s9.500 3 9.500 9",
        Server => "M-9-10H9V-1.500H-9ZM-9 1.500H9V10H-9ZM-5-5.750h.1M-5 5.750h.1",
        Gateway => "M-10 1H10V9H-10ZM-6 5h.1M-2 5h.1M6 1V-5M2.500-8.500a5 5 0 0 1 7 0M0-11.500a9 9 0 0 1 12 0",
        _ => "M-8-11H8V11H-8ZM-4.500-7.500H4.500V-1.500H-4.500ZM-4 3h.1M0 3h.1M4 3h.1M-4 7h.1M0 7h.1M4 7h.1",
    };
    html! { path.icon d=(shape) {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_is_broken_and_what_lies_behind_it_is_not_judged() {
        let count = |broken, state: &str| way(broken).into_string().matches(&format!("class=\"{state}\"")).count();
        for (before, part) in [Person, Internet, Server, Link, Gateway, Lan, Device].into_iter().enumerate() {
            assert_eq!((count(part, "fine"), count(part, "broken"), count(part, "beyond")), (before, 1, 6 - before));
            assert_eq!(count(part, "cross"), 1);
        }
    }
}
