use std::os::unix::fs::PermissionsExt;

use super::*;

fn own(dir: &std::path::Path, console: &str) -> Source {
    Source::OwnCa { state_dir: dir.to_owned(), console: console.into(), zone: "devices.example.net".into() }
}

fn leaf(certificates: &Certificates) -> Vec<u8> {
    certificates.current.lock().unwrap().cert[0].to_vec()
}

#[test]
fn an_own_certificate_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let first = Certificates::load(own(dir.path(), "remote.example.com")).unwrap();
    let second = Certificates::load(own(dir.path(), "remote.example.com")).unwrap();
    assert_eq!(leaf(&first), leaf(&second));
    assert!(!first.refresh().unwrap());
    for secret in ["ca-key.pem", "server.pem"] {
        let mode = std::fs::metadata(dir.path().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    let days = first.not_after().unwrap().duration_since(Timestamp::now()).as_hours() / 24;
    assert!((390..=397).contains(&days), "{days}");
}

#[test]
fn another_name_gets_another_leaf_of_the_same_authority() {
    let dir = tempfile::tempdir().unwrap();
    let first = Certificates::load(own(dir.path(), "remote.example.com")).unwrap();
    let authority = std::fs::read(dir.path().join("ca.pem")).unwrap();
    let second = Certificates::load(own(dir.path(), "other.example.com")).unwrap();
    assert_ne!(leaf(&first), leaf(&second));
    assert_eq!(authority, std::fs::read(dir.path().join("ca.pem")).unwrap());
}

#[test]
fn a_leaf_is_renewed_when_a_third_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let names = own_ca::names("remote.example.com", "devices.example.net");
    let start = Timestamp::now();
    let at = |days: u64| start + Duration::from_secs(days * 24 * 3600);
    let load = |days| own_ca::load(dir.path(), &names, &provider, at(days)).unwrap().cert[0].to_vec();
    let first = load(0);
    assert_eq!(first, load(200));
    let second = load(300);
    assert_ne!(first, second);
    assert_eq!(second, load(301));
}

#[test]
fn half_a_state_is_explained_or_healed() {
    let dir = tempfile::tempdir().unwrap();
    let first = Certificates::load(own(dir.path(), "remote.example.com")).unwrap();
    std::fs::write(dir.path().join("server.pem"), "half a fi").unwrap();
    let second = Certificates::load(own(dir.path(), "remote.example.com")).unwrap();
    assert_ne!(leaf(&first), leaf(&second));
    std::fs::remove_file(dir.path().join("ca-key.pem")).unwrap();
    let error = Certificates::load(own(dir.path(), "remote.example.com")).unwrap_err().to_string();
    assert!(error.contains("backup") && error.contains("ca-key.pem"), "{error}");
}

#[test]
fn files_are_reloaded_and_complaints_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let write = |name: &str| {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        std::fs::write(&certificate_file, made.cert.pem()).unwrap();
        std::fs::write(&key_file, made.signing_key.serialize_pem()).unwrap();
    };
    write("remote.example.com");
    let source = Source::Files { certificate_file: certificate_file.clone(), key_file: key_file.clone() };
    let certificates = Certificates::load(source.clone()).unwrap();
    let old = std::fs::read(&certificate_file).unwrap();
    write("remote.example.com");
    assert!(certificates.refresh().unwrap());
    std::fs::write(&certificate_file, old).unwrap();
    let error = certificates.refresh().unwrap_err().to_string();
    assert!(error.contains("key.pem") && error.contains("does not fit"), "{error}");
    std::fs::write(&certificate_file, "nothing").unwrap();
    assert!(Certificates::load(source.clone()).unwrap_err().to_string().contains("BEGIN CERTIFICATE"));
    std::fs::remove_file(&certificate_file).unwrap();
    assert!(Certificates::load(source).unwrap_err().to_string().contains("cert.pem"));
}

#[test]
fn the_end_of_a_certificate_is_read() {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    assert_eq!(not_after(made.cert.der()).unwrap().to_string(), "4096-01-01T00:00:00Z");
    for cut in 0..64 {
        assert_eq!(not_after(&made.cert.der()[..cut]), None);
    }
}

#[test]
fn hosts_that_a_certificate_does_not_name_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(own(dir.path(), "remote.example.com")).unwrap();
    let hosts = ["remote.example.com", "plc1.devices.example.net", "devices.example.org", "a.b.devices.example.net"];
    assert_eq!(certificates.unnamed(&hosts), ["devices.example.org", "a.b.devices.example.net"]);
}
