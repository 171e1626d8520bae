//! A person's own account in a browser: the password and the sessions.

use axum::body::Body;
use http::Request;
use http::StatusCode;
use http::header::AUTHORIZATION;
use linkspan_server::config::SecondFactor;

use crate::house::{Browser, House, PASSWORD, between};

const NEW: &str = "seven swans a-swimming";

#[tokio::test]
async fn a_changed_password_ends_every_other_session() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let (mut here, mut there) = (Browser::new(&house), Browser::new(&house));
    here.sign_in("otto").await;
    there.sign_in("otto").await;
    let token = house.token("otto").await;
    let fields = |present, new, again| [("present", present), ("new", new), ("again", again)];
    for (present, new, again, status) in [
        ("wrong horse", NEW, NEW, StatusCode::UNAUTHORIZED),
        (PASSWORD, NEW, "another", StatusCode::UNPROCESSABLE_ENTITY),
        (PASSWORD, "password1", "password1", StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(here.post("/account/password", &fields(present, new, again)).await.status, status);
    }
    assert!(there.is_signed_in().await);
    let done = here.post("/account/password", &fields(PASSWORD, NEW, NEW)).await;
    assert_eq!(done.location(), "/account?done=password");
    assert!(here.is_signed_in().await && !there.is_signed_in().await);
    let request = Request::get("/api/v1/session").header(AUTHORIZATION, format!("Bearer {token}"));
    assert_eq!(house.send(request.body(Body::empty()).unwrap()).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn sessions_are_shown_and_ended_one_or_all() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browsers: Vec<_> = (0..3).map(|_| Browser::new(&house)).collect();
    browsers[1].agent = "linkspan/0.1.0";
    for browser in &mut browsers {
        browser.sign_in("otto").await;
    }
    let mut anna = Browser::new(&house);
    anna.sign_in("anna").await;
    let page = browsers[0].get("/account").await.body;
    for part in ["Firefox on Linux", "Command line, linkspan 0.1.0", "192.0.2.7", "this one", "End all others"] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert_eq!(page.matches("this one").count(), 1);
    let id = between(&page, "name=\"id\" value=\"", "\"").to_owned();
    assert_eq!(anna.post("/account/sessions/end", &[("id", &id)]).await.location(), "/account?done=session");
    let alive = async |browsers: &mut Vec<Browser<'_>>| {
        let mut alive = 0;
        for browser in browsers {
            alive += usize::from(browser.is_signed_in().await);
        }
        alive
    };
    assert_eq!(alive(&mut browsers).await, 3, "nobody ends another person's");
    browsers[0].post("/account/sessions/end", &[("id", &id)]).await;
    assert_eq!(alive(&mut browsers).await, 2);
    browsers[0].post("/account/sessions/end-others", &[]).await;
    assert_eq!(alive(&mut browsers).await, 1);
    assert!(browsers[0].is_signed_in().await);
    assert_eq!(browsers[0].post("/account/sessions/end", &[("id", "x")]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn forms_of_other_sites_and_strangers_do_nothing() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browser = Browser::new(&house);
    browser.sign_in("otto").await;
    let mut stranger = Browser::new(&house);
    for path in [
        "/account/password",
        "/account/second-factor",
        "/account/second-factor/remove",
        "/account/recovery-codes",
        "/account/sessions/end",
        "/account/sessions/end-others",
    ] {
        for origin in
            [None, Some("null"), Some("https://plc1.z.test:8443"), Some("https://c.test"), Some("http://c.test:8443")]
        {
            browser.origin = origin;
            assert_eq!(browser.post(path, &[("present", PASSWORD)]).await.status, StatusCode::FORBIDDEN, "{path}");
        }
        assert_eq!(stranger.post(path, &[]).await.location(), "/login?next=%2Faccount", "{path}");
    }
    browser.origin = Some(crate::house::ORIGIN_HERE);
    assert!(browser.is_signed_in().await);
    for path in ["/account", "/account/password", "/account/second-factor", "/account/recovery-codes"] {
        let to = format!("/login?next={}", path.replace('/', "%2F"));
        assert_eq!(stranger.get(path).await.location(), to);
        let page = browser.get(path).await;
        assert_eq!(page.headers["cache-control"], "no-store", "{path}");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.headers["x-frame-options"], "DENY", "{path}");
    }
}
