use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rcgen::{CertificateParams, KeyPair as RcgenKey};

use std::path::Path;

use super::*;

fn files(folder: &Path) -> Files {
    Files { certificate: folder.join("gateway.pem"), key: folder.join("gateway.key") }
}

/// A certificate for the key that was written aside.
fn certified(files: &Files) -> String {
    let pem = fs::read_to_string(aside(&files.key)).unwrap();
    CertificateParams::new(Vec::new()).unwrap().self_signed(&RcgenKey::from_pem(&pem).unwrap()).unwrap().pem()
}

fn enrolled(folder: &Path) -> Files {
    let files = files(folder);
    files.key_under_way().unwrap();
    files.install(&certified(&files)).unwrap();
    files
}

#[test]
fn a_key_is_made_for_its_owner_alone_and_asked_about_again() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let first = files.key_under_way().unwrap();
    assert_eq!(fs::metadata(aside(&files.key)).unwrap().permissions().mode() & 0o777, 0o600);
    let again = files.key_under_way().unwrap();
    assert_eq!(first.pem(), again.pem(), "its answer was lost, so the same is asked for");
    files.install(&certified(&files)).unwrap();
    assert!(again.is_of(&files.load().unwrap()));
    assert_eq!(fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!aside(&files.key).exists() && !aside(&files.certificate).exists());
    assert_ne!(files.key_under_way().unwrap().pem(), again.pem(), "the next one is another one");
}

/// The disk as it is after each step of a replacement, as a power cut leaves it.
#[test]
fn what_root_enrols_belongs_to_whom_the_folder_belongs() {
    use std::os::unix::fs::{MetadataExt, chown};
    let folder = tempfile::tempdir().unwrap();
    // Only root may give files away; elsewhere the folder's owner is who writes.
    let whose = folder.path().metadata().unwrap();
    let (user, group) = if whose.uid() == 0 { (4321, 4322) } else { (whose.uid(), whose.gid()) };
    chown(folder.path(), Some(user), Some(group)).unwrap();
    let files = enrolled(folder.path());
    for file in [&files.key, &files.certificate] {
        let file = file.metadata().unwrap();
        assert_eq!((file.uid(), file.gid()), (user, group));
    }
}

#[test]
fn a_power_cut_at_any_step_leaves_an_identity_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let files = enrolled(dir.path());
    let works = |step: &str| files.load().unwrap_or_else(|e| panic!("after {step}: {e}"));
    let leaf = |pair: &Pair| pair.certified.cert[0].clone();
    let old = leaf(&works("enrolling"));
    for half in ["", "-----BEGIN PRIVATE KEY-----\nhalf"] {
        fs::write(aside(&files.key), half).unwrap();
        assert_eq!(leaf(&works("half a key")), old);
    }
    let key = files.key_under_way().unwrap();
    assert_eq!(leaf(&works("the key aside")), old);
    let certificate = certified(&files);
    fs::write(aside(&files.certificate), &certificate[..100]).unwrap();
    assert_eq!(leaf(&works("half a certificate aside")), old);
    disk::write(&aside(&files.certificate), certificate.as_bytes(), 0o644).unwrap();
    assert_eq!(leaf(&works("the certificate aside")), old);
    fs::rename(aside(&files.certificate), &files.certificate).unwrap();
    let new = works("the certificate in place");
    assert!(leaf(&new) != old && key.is_of(&new), "its key is found where it still is");
    // The next renewal after that finishes this one first.
    let next = files.key_under_way().unwrap();
    assert!(key.is_of(&works("the next key aside")) && !next.is_of(&new));
    files.install(&certified(&files)).unwrap();
    assert!(next.is_of(&works("the end")));
}

#[test]
fn what_is_no_identity_is_told_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = enrolled(dir.path());
    let told = |files: &Files| files.load().unwrap_err().to_string();
    let key = fs::read(&files.key).unwrap();
    fs::write(&files.key, RcgenKey::generate().unwrap().serialize_pem()).unwrap();
    assert!(told(&files).ends_with("gateway.key holds another key than that of the certificate"), "{}", told(&files));
    fs::write(&files.key, "rubbish").unwrap();
    assert!(told(&files).ends_with("gateway.key holds no private key in PEM"), "{}", told(&files));
    fs::write(&files.key, key).unwrap();
    assert!(files.load().is_ok());
    fs::write(&files.certificate, "rubbish").unwrap();
    assert!(told(&files).ends_with("gateway.pem holds no certificate in PEM"), "{}", told(&files));
    fs::remove_file(&files.certificate).unwrap();
    assert!(told(&files).contains("gateway.pem cannot be read"), "{}", told(&files));
}
