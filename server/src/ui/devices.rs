//! The list of a person's devices.

use jiff::Timestamp;
use maud::{Markup, html};

use super::{Brand, console_page_for};
use crate::access::Principal;
use crate::api::{DeviceView, ServiceView};

/// A list of devices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    /// Those that match what was searched for.
    pub(crate) shown: &'a [DeviceView],
    /// How many there are without a search.
    pub(crate) all: usize,
    /// What was searched for.
    pub(crate) search: &'a str,
}

/// The devices of a person, in the look of their organisation.
pub(crate) fn devices(brand: &Brand, who: &Principal, list: List<'_>, now: Timestamp) -> Markup {
    let List { shown, all, search } = list;
    let online = shown.iter().filter(|device| device.online).count();
    console_page_for(
        brand,
        "Devices",
        who,
        html! {
            div.head {
                div {
                    h1 { "Devices" }
                    p.soft.small { (counted(shown.len(), all)) ", " (online) " online" }
                }
                @if all > 0 {
                    form.find role="search" action="/" {
                        input type="search" name="q" value=(search) placeholder="Name, place or tag"
                            aria-label="Search devices" maxlength="100";
                        button.quiet type="submit" { "Search" }
                    }
                }
            }
            @if shown.is_empty() {
                div.card.empty { (nothing(all, search)) }
            }
            ul.devices {
                @for device in shown { (card(device, now)) }
            }
        },
    )
}

fn counted(shown: usize, all: usize) -> String {
    match (shown, all) {
        (1, 1) => "1 device".to_owned(),
        _ if shown == all => format!("{all} devices"),
        _ => format!("{shown} of {all} devices"),
    }
}

fn nothing(all: usize, search: &str) -> Markup {
    html! {
        @if all == 0 {
            h2 { "No devices yet" }
            p.soft { "They appear here as soon as a gateway connects and reports what is on its network." }
        } @else {
            h2 { "Nothing matches “" (search) "”" }
            p { a href="/" { "Show all devices" } }
        }
    }
}

fn card(device: &DeviceView, now: Timestamp) -> Markup {
    html! {
        li.card.device.off[!device.online] {
            div.row.apart {
                h2 { (device.name) }
                (state(device, now))
            }
            @if !device.description.is_empty() {
                p { (device.description) }
            }
            p.soft.small { "Gateway " (device.gateway) }
            @if !device.tags.is_empty() {
                div.row {
                    @for tag in &device.tags { span.tag { (tag) } }
                }
            }
            (services(device))
        }
    }
}

fn state(device: &DeviceView, now: Timestamp) -> Markup {
    let word = if device.online { "Online" } else { "Offline" };
    html! {
        @if let Some(since) = device.since {
            span.state.on[device.online] title=(format!("{word} since {}", seconds(since))) {
                (word) " " time datetime=(seconds(since)) { (ago(since, now)) }
            }
        } @else {
            span.state title="The gateway has never been connected" { "Never seen" }
        }
    }
}

fn services(device: &DeviceView) -> Markup {
    // What one may not use is no offer; why it is missing is said where nothing is left.
    let usable = device.services.iter().filter(|service| service.may != "no");
    let (web, other): (Vec<_>, Vec<_>) = usable.partition(|service| service.url.is_some());
    html! {
        @if web.is_empty() && other.is_empty() && !device.services.is_empty() {
            p.soft.small { "You may see this device, and not open it now." }
        }
        @if !other.is_empty() {
            details {
                summary { "Connect by " (other.iter().map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ")) }
                @for service in &other { code { (command(&device.name, service)) } }
            }
        }
        @if !web.is_empty() {
            div.row.open {
                @for (number, service) in web.iter().enumerate() {
                    a.button href=[service.url.as_deref()] {
                        @if number > 0 { (service.name) } @else if service.may == "look" { "Look" } @else { "Open" }
                        span aria-hidden="true" { "↗" }
                    }
                }
            }
        }
    }
}

/// What to type for a service that is not a page.
fn command(device: &str, service: &ServiceView) -> String {
    let name = &service.name;
    match service.kind.as_str() {
        "ssh" => format!("ssh -o ProxyCommand='linkspan connect %h:{name}' {device}"),
        _ => format!("linkspan connect {device}:{name}"),
    }
}

/// To the second: nobody reads more on a page.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn ago(since: Timestamp, now: Timestamp) -> String {
    how_long(since, now).map_or_else(|| "just now".to_owned(), |time| format!("for {time}"))
}

/// The time between, in the one unit that matters; none if it is less than a minute.
pub(crate) fn how_long(since: Timestamp, now: Timestamp) -> Option<String> {
    let seconds = now.duration_since(since).as_secs();
    match seconds {
        ..60 => None,
        60..3_600 => Some(format!("{} min", seconds / 60)),
        3_600..172_800 => Some(format!("{} h", seconds / 3_600)),
        _ => Some(format!("{} days", seconds / 86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::tests::who;

    fn view(name: &str) -> DeviceView {
        let service = |name: &str, kind: &str, url: Option<&str>| ServiceView {
            name: name.into(),
            kind: kind.into(),
            port: 80,
            url: url.map(str::to_owned),
            may: "use",
        };
        DeviceView {
            name: name.into(),
            description: "Press".into(),
            tags: vec!["hall-2".into()],
            gateway: "site12".into(),
            online: true,
            since: Some(Timestamp::UNIX_EPOCH),
            services: vec![service("web", "http", Some("https://plc1.z.test/")), service("ssh", "ssh", None)],
        }
    }

    #[test]
    fn a_card_says_what_one_needs() {
        let now = Timestamp::from_second(7_200).unwrap();
        let html =
            devices(&Brand::default(), &who(), List { shown: &[view("plc1")], all: 1, search: "" }, now).into_string();
        for part in [
            "plc1",
            "Press",
            "site12",
            "hall-2",
            "Online <time datetime=\"1970-01-01T00:00:00Z\">for 2 h</time>",
            "href=\"https://plc1.z.test/\"",
            "ssh -o ProxyCommand='linkspan connect %h:ssh' plc1",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn what_one_may_not_use_is_not_offered() {
        let shown = |may: [&'static str; 2]| {
            let mut device = view("plc1");
            for (service, may) in device.services.iter_mut().zip(may) {
                service.may = may;
            }
            let list = List { shown: &[device], all: 1, search: "" };
            devices(&Brand::default(), &who(), list, Timestamp::UNIX_EPOCH).into_string()
        };
        let html = shown(["look", "no"]);
        assert!(html.contains(">Look<") && !html.contains("Connect by"), "{html}");
        let html = shown(["no", "no"]);
        assert!(!html.contains("https://plc1.z.test/") && html.contains("not open it now"), "{html}");
    }

    #[test]
    fn what_a_gateway_says_is_text() {
        let evil = "<script>alert(1)</script>\" onload=\"x";
        let mut device = view("plc1");
        device.description = evil.into();
        device.tags = vec![evil.into()];
        device.services[1].name = evil.into();
        let html =
            devices(&Brand::default(), &who(), List { shown: &[device], all: 1, search: evil }, Timestamp::UNIX_EPOCH)
                .into_string();
        assert!(!html.contains("<script") && !html.contains("\" onload"), "{html}");
    }

    #[test]
    fn time_is_told_in_one_unit() {
        let at = |seconds| ago(Timestamp::UNIX_EPOCH, Timestamp::from_second(seconds).unwrap());
        assert_eq!(at(-5), "just now");
        assert_eq!(at(119), "for 1 min");
        assert_eq!(at(7_300), "for 2 h");
        assert_eq!(at(200_000), "for 2 days");
    }
}
