//! Links for one use: the first account, and choosing a password.

use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use linkspan_server::access::{Attempt, SessionKind, Token};
use linkspan_server::config::SecondFactor;

use crate::house::{Browser, House};

const NEW: &str = "seven swans a-swimming";

async fn first_link(house: &House) -> Token {
    let token = Token::random();
    let until = Timestamp::now() + Duration::from_secs(60);
    assert!(house.store.add_first_account_link(&token.hash(), until).await.unwrap());
    token
}

#[tokio::test]
async fn the_first_account_is_made_with_the_link_once() {
    let house = House::empty(SecondFactor::Nobody).await;
    let token = first_link(&house).await;
    let (path, link) = (format!("/welcome?link={}", token.expose()), token.expose());
    let mut browser = Browser::new(&house);
    for _ in 0..2 {
        let page = browser.get(&path).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.body.contains("Make the account"), "{}", page.body);
        assert_eq!(page.headers["referrer-policy"], "same-origin", "the link reaches no other site");
        assert_eq!(page.headers["cache-control"], "no-store");
    }
    let fields = |name, new, again| [("link", link), ("name", name), ("new", new), ("again", again)];
    for (name, new, again, told) in [
        ("boss", NEW, "something else", "are not the same"),
        ("boss", "12345678", "12345678", "among the first that are tried"),
        ("boss", "boss-1234", "boss-1234", "made of your name"),
        ("boss", "short", "short", "at least 8 characters"),
        ("the boss", NEW, NEW, "A user name has"),
    ] {
        let answer = browser.post("/welcome", &fields(name, new, again)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{new}");
        assert!(answer.body.contains(told), "{told} is not in {}", answer.body);
        assert!(!answer.body.contains(NEW), "passwords are not sent back");
    }
    assert_eq!(browser.post("/welcome", &fields("boss", NEW, NEW)).await.location(), "/login?done=password");
    assert!(browser.get("/login?done=password").await.body.contains("Your password is chosen"));
    assert_eq!(browser.post("/welcome", &fields("eve", NEW, NEW)).await.status, StatusCode::NOT_FOUND);
    assert_eq!(browser.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.store.users().await.unwrap().len(), 1);
    let password = Secret::new(NEW);
    house.access.sign_in(Attempt::new("boss", &password, SessionKind::Api)).await.unwrap();
}

#[tokio::test]
async fn a_link_to_choose_a_password_signs_out_everywhere_and_works_once() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browser = Browser::new(&house);
    browser.sign_in("otto").await;
    let (old, _) = house.access.password_link(&house.user("otto").await, None).await.unwrap().unwrap();
    let (token, _) = house.access.password_link(&house.user("otto").await, None).await.unwrap().unwrap();
    let mut guest = Browser::new(&house);
    let path = |token: &Token| format!("/welcome?link={}", token.expose());
    assert_eq!(guest.get(&path(&old)).await.status, StatusCode::NOT_FOUND, "a newer one is in its place");
    assert!(guest.get(&path(&token)).await.body.contains("<strong>otto</strong>"));
    assert!(browser.is_signed_in().await, "looking at the link does nothing");
    let fields = [("link", token.expose()), ("name", "anna"), ("new", NEW), ("again", NEW)];
    assert_eq!(guest.post("/welcome", &fields).await.location(), "/login?done=password");
    assert!(!browser.is_signed_in().await);
    let password = Secret::new(NEW);
    house.access.sign_in(Attempt::new("otto", &password, SessionKind::Api)).await.unwrap();
    let anna = house.access.sign_in(Attempt::new("anna", &password, SessionKind::Api)).await;
    assert!(anna.is_err(), "the name in the form decides nothing");
    assert_eq!(guest.post("/welcome", &fields).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_link_looks_like_one_that_was_used() {
    let house = House::with_people(SecondFactor::Nobody).await;
    let mut browser = Browser::new(&house);
    let random = Token::random();
    let expected = browser.get(&format!("/welcome?link={}", random.expose())).await.body;
    for path in ["/welcome", "/welcome?link=", "/welcome?link=x", "/welcome?link=%00", "/welcome?lnk=a&link=b&link=c"] {
        let answer = browser.get(path).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::NOT_FOUND, &expected), "{path}");
    }
}
