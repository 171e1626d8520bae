//! Signatures of the provider (JWS): with its own public keys, by the algorithms listed here, and by nothing else. There is
//! no way to say "none", and no secret that a public key could be taken for.

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;

/// Longest token.
const LONGEST: usize = 64 * 1024;

/// The provider's keys.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Keys {
    keys: Vec<Key>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Key {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood: none is.
    crit: Option<serde_json::Value>,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubt {
    /// It is signed with a key that is not known (yet).
    UnknownKey,
    /// It is not signed as it must be.
    Forged(&'static str),
}

/// What a token says, if one of the provider's keys has signed it.
pub(super) fn verified(token: &str, keys: &Keys) -> Result<Vec<u8>, Doubt> {
    let malformed = Doubt::Forged("the token is malformed");
    if token.len() > LONGEST {
        return Err(malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(malformed)?;
    let decoded = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed);
    let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| malformed)?;
    let (payload, signature) = (decoded(payload)?, decoded(signature)?);
    if header.crit.is_some() {
        return Err(Doubt::Forged("the token asks for extensions"));
    }
    let kind = kind_of(&header.alg).ok_or(Doubt::Forged("the algorithm is not one that is taken"))?;
    let fits = |key: &&Key| {
        key.kty == kind
            && key.purpose.as_deref().is_none_or(|purpose| purpose == "sig")
            && key.alg.as_deref().is_none_or(|alg| alg == header.alg)
            && (header.kid.is_none() || key.kid == header.kid)
    };
    let mut fitting = keys.keys.iter().filter(fits).peekable();
    if fitting.peek().is_none() {
        return Err(Doubt::UnknownKey);
    }
    let right = fitting.any(|key| key.has_signed(&header.alg, signed.as_bytes(), &signature));
    if right { Ok(payload) } else { Err(Doubt::Forged("the signature is wrong")) }
}

/// The kind of key that an algorithm works with.
fn kind_of(alg: &str) -> Option<&'static str> {
    match alg {
        "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => Some("RSA"),
        "ES256" | "ES384" => Some("EC"),
        "EdDSA" => Some("OKP"),
        _ => None,
    }
}

impl Key {
    fn has_signed(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        let decoded = |text: &String| BASE64URL_NOPAD.decode(text.trim_end_matches('=').as_bytes()).unwrap_or_default();
        let rsa = match alg {
            "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => Some(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => Some(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        };
        if let Some(parameters) = rsa {
            let key = RsaPublicKeyComponents { n: decoded(&self.n), e: decoded(&self.e) };
            return key.verify(parameters, message, signature).is_ok();
        }
        let x = decoded(&self.x);
        let point = || [&[4], x.as_slice(), &decoded(&self.y)].concat();
        let (algorithm, key): (&'static dyn VerificationAlgorithm, Vec<u8>) = match (alg, self.crv.as_str()) {
            ("ES256", "P-256") => (&signature::ECDSA_P256_SHA256_FIXED, point()),
            ("ES384", "P-384") => (&signature::ECDSA_P384_SHA384_FIXED, point()),
            ("EdDSA", "Ed25519") => (&signature::ED25519, x.clone()),
            _ => return false,
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::{Value, json};

    use super::*;

    /// A provider's key, and what it signs.
    pub(crate) struct Signer {
        pair: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Signer {
        pub(crate) fn new() -> Self {
            let random = SystemRandom::new();
            let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
            Self { pair, random }
        }

        pub(crate) fn jwk(&self, kid: &str) -> Value {
            let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
            let [x, y] = [x, y].map(|half| BASE64URL_NOPAD.encode(half));
            json!({"kty": "EC", "crv": "P-256", "kid": kid, "use": "sig", "x": x, "y": y})
        }

        pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
            let signed = format!("{}.{}", part(header), part(claims));
            let signature = self.pair.sign(&self.random, signed.as_bytes()).unwrap();
            format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
        }
    }

    pub(crate) fn keys(all: &[Value]) -> Keys {
        serde_json::from_value(json!({"keys": all})).unwrap()
    }

    #[test]
    fn only_the_providers_own_signature_counts() {
        let (signer, thief) = (Signer::new(), Signer::new());
        let known = keys(&[signer.jwk("k1")]);
        let claims = json!({"sub": "anna"});
        let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid});
        let good = signer.sign(&header("ES256", "k1"), &claims);
        assert_eq!(verified(&good, &known).unwrap(), claims.to_string().as_bytes());
        assert_eq!(verified(&signer.sign(&header("ES256", "k2"), &claims), &known), Err(Doubt::UnknownKey));
        let forged = |token: &str| matches!(verified(token, &known), Err(Doubt::Forged(_)));
        assert!(forged(&thief.sign(&header("ES256", "k1"), &claims)), "another key under the same name");
        for alg in ["none", "None", "NONE", "", "HS256", "HS512", "ES256K", "RS1"] {
            assert!(forged(&signer.sign(&header(alg, "k1"), &claims)), "{alg}");
            let unsigned = good.rsplit_once('.').unwrap().0;
            assert!(forged(&format!("{unsigned}.")), "without a signature");
        }
        assert!(forged(&signer.sign(&json!({"alg": "ES256", "kid": "k1", "crit": ["b64"]}), &claims)));
        // A public key taken for a shared secret: the classic confusion.
        assert_eq!(verified(&signer.sign(&header("RS256", "k1"), &claims), &known), Err(Doubt::UnknownKey));
        let (start, rest) = good.split_once('.').unwrap();
        let other = BASE64URL_NOPAD.encode(json!({"sub": "admin"}).to_string().as_bytes());
        let signature = rest.split_once('.').unwrap().1;
        assert!(forged(&format!("{start}.{other}.{signature}")));
        for bad in ["", ".", "..", "...", "a.b.c", &"x".repeat(LONGEST + 1)] {
            assert!(forged(bad), "{bad}");
        }
    }
}
