use linkspan_protocol::certificate::parts;
use linkspan_protocol::id::{GatewayName, Secret};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::*;
use crate::edge::tls::Source;
use crate::rights::TenantId;
use crate::store::Claim;
use crate::store::tests::fresh;

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn desk(times: config::Gateways) -> (tempfile::TempDir, Store, Desk) {
    let (dir, store) = fresh().await;
    let source = Source::OwnCa { state_dir: dir.path().to_owned(), console: "c.test".into(), zone: "z.test".into() };
    let certificates = Certificates::load(source).unwrap();
    let authority = GatewayCa::load(dir.path(), Timestamp::now()).unwrap();
    let desk = Desk::new(store.clone(), (authority, certificates), Programs::new(store.clone(), dir.path()), times);
    (dir, store, desk)
}

fn request(key: &KeyPair, code: Option<&str>, name: Option<&str>) -> EnrolRequest {
    let point = key.der_bytes();
    let mut request = EnrolRequest {
        code: code.map(Secret::new),
        public_key: BASE64.encode(point),
        proof: String::new(),
        name: name.map(|name| name.parse().unwrap()),
        agent: "test/1".into(),
    };
    request.proof = BASE64.encode(&key.sign(&statement(request.occasion(), point)).unwrap());
    request
}

async fn site_to_claim(store: &Store, name: &str) -> String {
    let code = word::claim_code().unwrap();
    let (created, name) = (Timestamp::now(), name.parse::<GatewayName>().unwrap());
    let claim = Claim { code: &code, created, expires: created + DAY };
    store.add_gateway_to_claim(TenantId::DEFAULT, &name, claim).await.unwrap().unwrap();
    code.expose()
}

fn from(n: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + n).into())
}

fn enrolled(answer: Result<Answer, EnrolError>) -> Enrolled {
    match answer.unwrap() {
        Answer::Enrolled(enrolled) => *enrolled,
        other => panic!("{other:?}"),
    }
}

fn fingerprint(enrolled: &Enrolled) -> Fingerprint {
    Fingerprint::of(&CertificateDer::from_pem_slice(enrolled.certificate.as_bytes()).unwrap())
}

#[tokio::test]
async fn the_server_decides_the_name_and_the_key_is_the_routers() {
    let (_dir, store, desk) = desk(config::Gateways::default()).await;
    let code = site_to_claim(&store, "site12").await;
    let key = KeyPair::generate().unwrap();
    // CVE-2024-33897: what the router calls itself counts for nothing.
    let enrolled = enrolled(desk.answer(&request(&key, Some(&code), Some("site7")), None, from(1)).await);
    assert_eq!(enrolled.name.as_str(), "site12");
    let der = CertificateDer::from_pem_slice(enrolled.certificate.as_bytes()).unwrap();
    assert_eq!(parts(&der).unwrap().public_key, key.subject_public_key_info());
    assert!(!der.windows(5).any(|window| window == b"site7"));
    assert_eq!(enrolled.server_keys.len(), 2, "the certificate's, and its authority's");
    assert!(enrolled.server_ca.unwrap().contains("BEGIN CERTIFICATE"));
    let known = store.certificate(&Fingerprint::of(&der)).await.unwrap().unwrap();
    assert!(known.counts && known.gateway.name.as_str() == "site12");
}

#[tokio::test]
async fn of_fifty_routers_with_one_code_one_wins() {
    let (_dir, store, desk) = desk(config::Gateways::default()).await;
    let code = site_to_claim(&store, "site12").await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (desk, code) = (desk.clone(), code.clone());
        all.spawn(async move {
            let key = KeyPair::generate().unwrap();
            desk.answer(&request(&key, Some(&code), None), None, from(n)).await
        });
    }
    let (won, lost): (Vec<_>, Vec<_>) = all.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 49));
    assert!(lost.iter().all(|lost| matches!(lost, Err(EnrolError::Refused))), "{lost:?}");
}

#[tokio::test]
async fn a_lost_answer_is_given_again_to_the_same_key_only() {
    let (_dir, store, desk) = desk(config::Gateways::default()).await;
    let code = site_to_claim(&store, "site12").await;
    let key = KeyPair::generate().unwrap();
    let first = enrolled(desk.answer(&request(&key, Some(&code), None), None, from(1)).await);
    let again = enrolled(desk.answer(&request(&key, Some(&code), None), None, from(1)).await);
    assert!(store.certificate(&fingerprint(&first)).await.unwrap().is_none(), "the lost one opens nothing");
    store.certificate_used(&fingerprint(&again), Timestamp::now()).await.unwrap();
    let late = desk.answer(&request(&key, Some(&code), None), None, from(1)).await;
    assert!(matches!(late, Err(EnrolError::Refused)), "it has arrived: {late:?}");
}

/// Teltonika RMS (CVE-2023-32346) answered differently for serials that exist.
#[tokio::test]
async fn unknown_used_and_expired_codes_are_answered_alike() {
    let (_dir, store, desk) = desk(config::Gateways::default()).await;
    let key = KeyPair::generate().unwrap();
    let used = site_to_claim(&store, "site1").await;
    enrolled(desk.answer(&request(&KeyPair::generate().unwrap(), Some(&used), None), None, from(1)).await);
    let expired = word::claim_code().unwrap();
    let created = Timestamp::now() - 2 * DAY;
    let claim = Claim { code: &expired, created, expires: created + DAY };
    store.add_gateway_to_claim(TenantId::DEFAULT, &"site2".parse().unwrap(), claim).await.unwrap().unwrap();
    let unknown = word::claim_code().unwrap().expose();
    let mut taken = [("unknown", unknown), ("used", used), ("expired", expired.expose())].map(|(what, code)| {
        let request = request(&key, Some(&code), None);
        (what, request, Vec::new())
    });
    for round in 0..300 {
        for (what, request, times) in &mut taken {
            let began = std::time::Instant::now();
            let answer = desk.answer(request, None, from(round)).await;
            times.push(began.elapsed());
            assert!(matches!(answer, Err(EnrolError::Refused)), "{what}: {answer:?}");
        }
    }
    let typical = taken.map(|(what, _, mut times)| {
        times.sort_unstable();
        // The quickest tenth: what the machine does beside is not in it.
        (what, times[times.len() / 10].as_secs_f64())
    });
    for (what, time) in typical {
        let ratio = time / typical[0].1;
        assert!((0.8..1.25).contains(&ratio), "{what} takes {ratio:.2} times as long as unknown: {typical:?}");
    }
}

#[tokio::test]
async fn guessing_is_slowed_and_rubbish_is_refused() {
    let (_dir, _store, desk) = desk(config::Gateways::default()).await;
    let key = KeyPair::generate().unwrap();
    let guess = word::claim_code().unwrap().expose();
    let mut slow = 0;
    for _ in 0..100 {
        match desk.answer(&request(&key, Some(&guess), None), None, from(1)).await {
            Err(EnrolError::Slow(_)) => slow += 1,
            other => assert!(matches!(other, Err(EnrolError::Refused)), "{other:?}"),
        }
    }
    assert!(slow >= 35, "{slow}");
    for spoil in 0..5 {
        let mut request = request(&key, Some(&guess), None);
        match spoil {
            0 => request.code = Some(Secret::new("x".repeat(1000))),
            1 => request.public_key = "!".into(),
            2 => request.proof = BASE64.encode(b"no"),
            // Signed for another code.
            3 => request.code = Some(Secret::new("K7QM")),
            _ => request.public_key = BASE64.encode(KeyPair::generate().unwrap().der_bytes()),
        }
        let answer = desk.answer(&request, None, from(2)).await;
        assert!(matches!(answer, Err(EnrolError::Malformed(_))), "{spoil}: {answer:?}");
    }
    let nothing = desk.answer(&request(&key, None, Some("site12")), None, from(3)).await;
    assert!(matches!(nothing, Err(EnrolError::Malformed(_))));
}

#[tokio::test]
async fn a_gateway_renews_its_own_certificate_and_no_other() {
    let times = config::Gateways {
        certificate_lifetime: Duration::from_millis(10),
        certificate_grace: DAY,
        ..config::Gateways::default()
    };
    let (_dir, store, desk) = desk(times).await;
    let code = site_to_claim(&store, "site12").await;
    site_to_claim(&store, "site7").await;
    let old = KeyPair::generate().unwrap();
    let first = fingerprint(&enrolled(desk.answer(&request(&old, Some(&code), None), None, from(1)).await));
    store.certificate_used(&first, Timestamp::now()).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let as_site =
        async |name, shown: &Fingerprint| desk.answer(&request(&key, None, Some(name)), Some(shown), from(1)).await;
    assert!(matches!(as_site("site7", &first).await, Err(EnrolError::NotRenewed)));
    let stranger = Fingerprint::of(b"of our authority, but never issued");
    assert!(matches!(as_site("site12", &stranger).await, Err(EnrolError::NotRenewed)));
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    // It has ended by now, and is in its grace.
    let second = loop {
        match as_site("site12", &first).await {
            Err(EnrolError::Slow(wait)) => tokio::time::sleep(wait).await,
            other => break fingerprint(&enrolled(other)),
        }
        assert!(std::time::Instant::now() < deadline);
    };
    let counts = async |fingerprint| store.certificate(fingerprint).await.unwrap().unwrap().counts;
    assert!(counts(&first).await && counts(&second).await, "until the new one is seen, both count");
    store.certificate_used(&second, Timestamp::now()).await.unwrap();
    assert!(!counts(&first).await && counts(&second).await);
    assert!(matches!(as_site("site12", &first).await, Err(EnrolError::NotRenewed)));
    store.revoke_gateway(&"site12".parse().unwrap(), Timestamp::now()).await.unwrap();
    assert!(matches!(as_site("site12", &second).await, Err(EnrolError::NotRenewed)));
}
