//! The second factor at sign-in, in the API and in a browser.

use data_encoding::BASE32_NOPAD;
use http::StatusCode;
use jiff::Timestamp;
use linkspan_server::config::SecondFactor;
use ring::hmac;
use serde_json::json;

use crate::house::{Browser, House, PASSWORD, between};

/// What a phone shows for a secret, some steps ahead.
fn code(secret: &str, ahead: i64) -> String {
    let secret = BASE32_NOPAD.decode(secret.replace(' ', "").as_bytes()).unwrap();
    let step = Timestamp::now().as_second() / 30 + ahead;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret), &step.to_be_bytes());
    let offset = usize::from(tag.as_ref()[19] & 15);
    let four: [u8; 4] = tag.as_ref()[offset..offset + 4].try_into().unwrap();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

/// Sets a second factor up in a browser that is signed in; the secret and the recovery codes.
async fn set_up(browser: &mut Browser<'_>) -> (String, Vec<String>) {
    let page = browser.get("/account/second-factor").await;
    let secret = between(&page.body, "<code>", "</code>").to_owned();
    let first = code(&secret, -1);
    let fields = [("code", first.as_str()), ("present", "wrong horse")];
    let wrong = browser.post("/account/second-factor", &fields).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.body.contains("Your password is wrong."), "{}", wrong.body);
    let fields = [("code", first.as_str()), ("present", PASSWORD)];
    let done = browser.post("/account/second-factor", &fields).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    let list = between(&done.body, "<ul class=\"codes\">", "</ul>");
    let codes = list.split("<li>").skip(1).map(|item| item.split('<').next().unwrap().to_owned()).collect();
    (secret, codes)
}

#[tokio::test]
async fn a_browser_is_asked_for_the_code_and_a_program_is_told_so() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browser = Browser::new(&house);
    assert_eq!(browser.sign_in("otto").await.location(), "/account");
    let (secret, codes) = set_up(&mut browser).await;
    assert_eq!(codes.len(), 10);

    let mut other = Browser::new(&house);
    assert_eq!(other.sign_in("otto").await.location(), "/login/code?next=%2Faccount");
    assert!(!other.is_signed_in().await, "the password alone opens nothing");
    assert!(other.get("/login/code?next=%2Faccount").await.body.contains("recovery codes"));
    let wrong = other.post("/login/code", &[("code", "000000"), ("next", "/account")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let used = other.post("/login/code", &[("code", &code(&secret, -1)), ("next", "/account")]).await;
    assert_eq!(used.status, StatusCode::UNAUTHORIZED, "that code was used to set it up");
    let right = code(&secret, 0);
    let done = other.post("/login/code", &[("code", &right), ("next", "/account")]).await;
    assert_eq!(done.location(), "/account");
    assert!(other.is_signed_in().await && !other.cookies.contains_key("__Host-linkspan-half"));

    let without = house.api_sign_in(&json!({"name": "otto", "password": PASSWORD})).await;
    assert_eq!((without.status, &without.json()["code"]), (StatusCode::UNAUTHORIZED, &json!("second-factor")));
    let wrong = house.api_sign_in(&json!({"name": "otto", "password": "wrong horse", "code": codes[0]})).await;
    assert_eq!(wrong.json()["code"], "wrong-password", "whether there is a second factor is not told");
    let again = house.api_sign_in(&json!({"name": "otto", "password": PASSWORD, "code": right})).await;
    assert_eq!((again.status, &again.json()["code"]), (StatusCode::UNAUTHORIZED, &json!("wrong-code")));
    let next = code(&secret, 1);
    let done = house.api_sign_in(&json!({"name": "otto", "password": PASSWORD, "code": next})).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.body);
    let recovered = house.api_sign_in(&json!({"name": "otto", "password": PASSWORD, "code": codes[0]})).await;
    assert_eq!(recovered.status, StatusCode::OK);
    let recovered = house.api_sign_in(&json!({"name": "otto", "password": PASSWORD, "code": codes[0]})).await;
    assert_eq!(recovered.status, StatusCode::UNAUTHORIZED, "a recovery code works once");
}

#[tokio::test]
async fn where_it_is_required_it_is_set_up_before_anything_else() {
    let house = House::with_people(SecondFactor::Roles(vec!["admin".into()])).await;
    let mut otto = Browser::new(&house);
    assert_eq!(otto.sign_in("otto").await.location(), "/account", "not for this role");
    let told = house.api_sign_in(&json!({"name": "anna", "password": PASSWORD})).await;
    assert_eq!((told.status, &told.json()["code"]), (StatusCode::FORBIDDEN, &json!("second-factor-missing")));

    let mut anna = Browser::new(&house);
    assert_eq!(anna.sign_in("anna").await.location(), "/login/second-factor?next=%2Faccount");
    assert!(!anna.is_signed_in().await);
    let page = anna.get("/login/second-factor?next=%2Faccount").await;
    let secret = between(&page.body, "<code>", "</code>").to_owned();
    let wrong = anna.post("/login/second-factor", &[("code", "000000"), ("next", "/account")]).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    assert!(wrong.body.contains(&secret), "the same secret as before");
    assert!(!anna.is_signed_in().await);
    let done = anna.post("/login/second-factor", &[("code", &code(&secret, 0)), ("next", "/account")]).await;
    assert_eq!(done.status, StatusCode::OK);
    assert!(done.body.contains("Keep these codes") && done.body.contains("href=\"/account\""), "{}", done.body);
    assert!(anna.is_signed_in().await);
    let removed = anna.post("/account/second-factor/remove", &[("code", &code(&secret, 1))]).await;
    assert_eq!(removed.status, StatusCode::FORBIDDEN, "the role needs it");
}

#[tokio::test]
async fn too_many_wrong_codes_begin_anew_and_are_slowed() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browser = Browser::new(&house);
    browser.sign_in("otto").await;
    let (secret, _) = set_up(&mut browser).await;
    let mut thief = Browser::new(&house);
    thief.sign_in("otto").await;
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(thief.post("/login/code", &[("code", "000000")]).await.status.as_u16());
    }
    assert_eq!(statuses[..5], [401; 5]);
    thief.sign_in("otto").await;
    let slowed = thief.post("/login/code", &[("code", &code(&secret, 0))]).await;
    assert_eq!(slowed.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(slowed.headers.contains_key("retry-after") && slowed.body.contains("Too many attempts"));
}

#[tokio::test]
async fn the_owner_renews_codes_and_removes_it_with_a_code() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browser = Browser::new(&house);
    browser.sign_in("otto").await;
    let (_, codes) = set_up(&mut browser).await;
    assert!(browser.get("/account").await.body.contains("Recovery codes left: <strong>10</strong>"));
    let refused = browser.post("/account/recovery-codes", &[("code", "aaaa-aaaa-aaaa-aaaa")]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let page = browser.post("/account/recovery-codes", &[("code", &codes[0])]).await;
    assert!(page.body.contains("Keep these codes") && !page.body.contains(&codes[1]));
    let old = browser.post("/account/second-factor/remove", &[("code", &codes[1])]).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED, "the old ones are void");
    let fresh = between(&page.body, "<li>", "</li>");
    let removed = browser.post("/account/second-factor/remove", &[("code", fresh)]).await;
    assert_eq!(removed.location(), "/account?done=removed");
    assert_eq!(Browser::new(&house).sign_in("otto").await.location(), "/account");
}

#[tokio::test]
async fn somebody_without_the_password_gets_nowhere_near_it() {
    let house = House::with_people(SecondFactor::Everybody).await;
    let mut browser = Browser::new(&house);
    for path in ["/login/code?next=%2Fa", "/login/second-factor?next=%2Fa"] {
        assert_eq!(browser.get(path).await.location(), "/login?next=%2Fa");
        let posted = browser.post(path.split('?').next().unwrap(), &[("code", "000000"), ("next", "/a")]).await;
        assert_eq!(posted.location(), "/login?next=%2Fa");
    }
    browser.sign_in("otto").await;
    browser.origin = Some("https://evil.test");
    let forged = browser.post("/login/second-factor", &[("code", "000000")]).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);
}
