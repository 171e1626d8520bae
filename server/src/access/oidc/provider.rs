//! The provider: found by discovery, asked with the code that a browser brings, its keys read again when it has new ones.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ::http::HeaderValue;
use data_encoding::BASE64;
use linkspan_protocol::id::Secret;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;
use url::form_urlencoded::Serializer;

use super::OidcError;
use super::claims::{Claims, Expected, text, texts};
use super::http::{Http, Question};
use super::jws::{Doubt, Keys, verified};
use crate::access::trust::{TrustError, client_config};
use crate::config::{GroupRole, Oidc, Site};

/// How long what the provider says of itself is believed.
const BELIEVED: Duration = Duration::from_hours(1);
/// Strangers' tokens with unknown keys make nobody ask for the keys more often than this.
const KEYS_AGAIN: Duration = Duration::from_secs(10);

/// An OpenID provider. Clones share what they know of it.
#[derive(Clone)]
pub struct Provider {
    inner: Arc<Inner>,
    /// Where it sends browsers back to.
    redirect: String,
}

struct Inner {
    settings: Oidc,
    secret: Option<Secret>,
    http: Http,
    metadata: Mutex<Option<(Instant, Metadata)>>,
    keys: Mutex<Option<(Instant, Arc<Keys>)>>,
}

/// Why a provider cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ProviderConfigError {
    /// The secret.
    #[error("cannot read {} ([oidc] client_secret_file)", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The authority.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// What the provider says of itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Somebody whom the provider knows.
pub(super) struct Person {
    pub(super) subject: String,
    pub(super) name: String,
    pub(super) groups: Vec<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

impl Provider {
    /// Reads what the configuration names; asks nothing yet.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn new(settings: Oidc, site: &Site) -> Result<Self, ProviderConfigError> {
        let secret = settings.client_secret_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path);
            text.map_err(|source| ProviderConfigError::Secret { path: path.clone(), source })
        });
        let secret = secret.transpose()?.map(|text| Secret::new(text.trim()));
        let http = Http { tls: Arc::new(client_config(settings.ca_file.as_deref())?) };
        let (metadata, keys) = (Mutex::default(), Mutex::default());
        let inner = Arc::new(Inner { settings, secret, http, metadata, keys });
        Ok(Self { inner, redirect: back_to(site) })
    }

    /// Where the console is, if that has become known later.
    pub(crate) fn set_home(&mut self, site: &Site) {
        self.redirect = back_to(site);
    }

    /// What stands on the button.
    pub(crate) fn title(&self) -> &str {
        &self.inner.settings.title
    }

    /// How it is to be used.
    pub(in crate::access) fn settings(&self) -> &Oidc {
        &self.inner.settings
    }

    pub(super) fn issuer(&self) -> &str {
        &self.inner.settings.issuer
    }

    /// What these groups make of somebody.
    pub(super) fn role(&self, groups: &[String]) -> Option<&GroupRole> {
        self.inner.settings.roles.iter().find(|role| role.group == "*" || groups.contains(&role.group))
    }

    /// Where a person signs out there too, if it has such a place.
    pub(crate) async fn end_of_session(&self, home: &str) -> Option<String> {
        let metadata = self.metadata().await.ok()?;
        let mut url = Url::parse(metadata.end_session_endpoint.as_deref()?).ok()?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.inner.settings.client_id)
            .append_pair("post_logout_redirect_uri", home);
        Some(url.into())
    }

    /// What it says of itself.
    pub(super) async fn metadata(&self) -> Result<Metadata, OidcError> {
        let kept = lock(&self.inner.metadata).clone();
        if let Some((_, metadata)) = kept.filter(|(since, _)| since.elapsed() < BELIEVED) {
            return Ok(metadata);
        }
        let url = format!("{}/.well-known/openid-configuration", self.issuer().trim_end_matches('/'));
        let metadata: Metadata = self.ask(Question { url: &url, authorization: None, form: None }).await?;
        if metadata.issuer != self.issuer() {
            return Err(OidcError::Provider(format!("it names itself `{}`", super::plain(&metadata.issuer))));
        }
        let places = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
        if places.iter().any(|place| !place.starts_with("https://")) {
            return Err(OidcError::Provider("it names a place that is not https".to_owned()));
        }
        *lock(&self.inner.metadata) = Some((Instant::now(), metadata.clone()));
        Ok(metadata)
    }

    /// Where a browser goes to sign in.
    pub(super) fn authorization(&self, metadata: &Metadata, more: &[(&str, &str)]) -> Result<String, OidcError> {
        let (Inner { settings, .. }, redirect) = (&*self.inner, &self.redirect);
        let url = Url::parse(&metadata.authorization_endpoint);
        let mut url = url.map_err(|error| OidcError::Provider(error.to_string()))?;
        let scope = settings.scopes.iter().fold("openid".to_owned(), |all, scope| all + " " + scope);
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &settings.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &scope)
            .extend_pairs(more);
        Ok(url.into())
    }

    /// Trades the code for who the person is.
    pub(super) async fn redeem(&self, code: &str, verifier: &str, expected: Expected<'_>) -> Result<Person, OidcError> {
        let metadata = self.metadata().await?;
        let tokens = self.tokens(&metadata, code, verifier).await?;
        let claims = self.claims(&metadata, &tokens.id_token).await?;
        let settings = &self.inner.settings;
        claims.check(&settings.issuer, &settings.client_id, expected).map_err(OidcError::Unbelievable)?;
        let mut name = text(&claims.rest, &settings.name_claim);
        let mut groups = texts(&claims.rest, &settings.groups_claim);
        if name.is_none() || groups.is_none() {
            // Many providers put into the token only what they must, and the rest here.
            let more = self.userinfo(&metadata, tokens.access_token.as_deref(), &claims.sub).await?;
            name = name.or_else(|| text(&more, &settings.name_claim));
            groups = groups.or_else(|| texts(&more, &settings.groups_claim));
        }
        let name = name.ok_or(OidcError::Unbelievable("it does not say the person's name"))?;
        Ok(Person { subject: claims.sub, name, groups: groups.unwrap_or_default() })
    }

    async fn tokens(&self, metadata: &Metadata, code: &str, verifier: &str) -> Result<Tokens, OidcError> {
        let (authorization, form) = self.token_request(metadata, code, verifier)?;
        self.ask(Question { url: &metadata.token_endpoint, authorization, form: Some(form) }).await
    }

    /// What shows the provider who trades the code: in a header or in the form, as it wants it.
    fn token_request(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &str,
    ) -> Result<(Option<HeaderValue>, String), OidcError> {
        let Inner { settings, secret, .. } = &*self.inner;
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", &self.redirect)
            .append_pair("code_verifier", verifier);
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        let in_header = methods.is_none_or(|methods| methods.iter().any(|method| method == "client_secret_basic"));
        if let Some(secret) = secret.as_ref().filter(|_| in_header) {
            return Ok((Some(basic(&settings.client_id, secret)?), form.finish()));
        }
        form.append_pair("client_id", &settings.client_id);
        if let Some(secret) = secret {
            form.append_pair("client_secret", secret.expose());
        }
        Ok((None, form.finish()))
    }

    /// What a token says, with keys that are read again if it is signed with a new one.
    async fn claims(&self, metadata: &Metadata, token: &str) -> Result<Claims, OidcError> {
        let mut result = verified(token, &*self.keys(metadata, BELIEVED).await?);
        if result == Err(Doubt::UnknownKey) {
            result = verified(token, &*self.keys(metadata, KEYS_AGAIN).await?);
        }
        let payload = result.map_err(|doubt| match doubt {
            Doubt::UnknownKey => OidcError::Unbelievable("it is signed with a key that the provider does not name"),
            Doubt::Forged(why) => OidcError::Unbelievable(why),
        })?;
        serde_json::from_slice(&payload).map_err(|_| OidcError::Unbelievable("the token's claims are malformed"))
    }

    async fn keys(&self, metadata: &Metadata, age: Duration) -> Result<Arc<Keys>, OidcError> {
        let kept = lock(&self.inner.keys).clone();
        if let Some((_, keys)) = kept.filter(|(since, _)| since.elapsed() < age) {
            return Ok(keys);
        }
        let keys: Keys = self.ask(Question { url: &metadata.jwks_uri, authorization: None, form: None }).await?;
        let keys = Arc::new(keys);
        *lock(&self.inner.keys) = Some((Instant::now(), keys.clone()));
        Ok(keys)
    }

    /// More claims; they must be about the same person as the token.
    async fn userinfo(
        &self,
        metadata: &Metadata,
        token: Option<&str>,
        subject: &str,
    ) -> Result<Map<String, Value>, OidcError> {
        let (Some(url), Some(token)) = (&metadata.userinfo_endpoint, token) else { return Ok(Map::new()) };
        let authorization = HeaderValue::from_str(&format!("Bearer {token}"));
        let authorization = authorization.map_err(|_| OidcError::Unbelievable("its access token is malformed"))?;
        let more: Map<String, Value> =
            self.ask(Question { url, authorization: Some(authorization), form: None }).await?;
        if more.get("sub").and_then(Value::as_str) != Some(subject) {
            return Err(OidcError::Unbelievable("token and userinfo are about different people"));
        }
        Ok(more)
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, question: Question<'_>) -> Result<T, OidcError> {
        self.inner.http.ask(question).await.map_err(OidcError::Provider)
    }
}

fn back_to(site: &Site) -> String {
    format!("{}/oidc/callback", site.console_origin())
}

fn basic(client: &str, secret: &Secret) -> Result<HeaderValue, OidcError> {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let both = format!("{}:{}", escaped(client), escaped(secret.expose()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(both.as_bytes())))
        .map_err(|_| OidcError::Provider("the client's secret cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
