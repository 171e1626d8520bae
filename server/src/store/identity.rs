//! What gateways prove themselves with: secrets, certificates of ours, and when either stops counting.

use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::id::{GatewayName, SECRET_MAX, Secret};
use ring::digest::{SHA256, digest};
use sqlx::{Sqlite, Transaction};
use subtle::ConstantTimeEq as _;

use super::gateways::gateway_name;
use super::{GatewayId, Store, StoreError, time_from};

/// Certificates of one gateway that were issued and never used; more are forgotten, the oldest first.
const UNUSED_MAX: i64 = 4;

/// Certificates are kept in mind for so long after their end: as long as their gateway might come back with one.
const KEPT: Duration = Duration::from_hours(400 * 24);

/// The SHA-256 of a certificate, as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// That of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        Self(sha256_hex(der))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A gateway whose identity is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Which one.
    pub id: GatewayId,
    /// Its name.
    pub name: GatewayName,
    /// What this proof counts under; see [`Store::identity_epochs`].
    pub epoch: i64,
    /// How many changes of identities there had been when it was looked up.
    pub change: i64,
}

/// A certificate that was issued here, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub gateway: Proven,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Whether a gateway came in with it before.
    pub used: bool,
    /// Whether it still counts: neither it was replaced nor its gateway revoked.
    pub counts: bool,
}

/// A certificate to be kept in mind.
#[derive(Clone, Copy, Debug)]
pub struct Issue<'a> {
    /// Whose it is.
    pub gateway: GatewayId,
    /// Which it is.
    pub fingerprint: &'a Fingerprint,
    /// The hash of the public key in it.
    pub public_key: &'a str,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

/// A certificate as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateView {
    /// Which it is.
    pub fingerprint: String,
    /// When it was made.
    pub issued: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// When a gateway first came in with it.
    pub used: Option<Timestamp>,
    /// Since when it no longer counts.
    pub retired: Option<Timestamp>,
}

/// How a gateway proves itself, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityView {
    /// Whether it has a shared secret.
    pub secret: bool,
    /// Since when nothing it has is accepted.
    pub revoked: Option<Timestamp>,
    /// The end of a claim code that waits for its router.
    pub claim_expires: Option<Timestamp>,
    /// Its certificates, the newest first.
    pub certificates: Vec<CertificateView>,
}

impl Store {
    /// Who a gateway is, if name and secret belong together. An unknown name costs what a wrong secret costs.
    pub async fn check_gateway(&self, name: &GatewayName, secret: &Secret) -> Result<Option<Proven>, StoreError> {
        let sql = "SELECT g.id, g.secret, g.epoch, c.number FROM gateways g, changes c \
                   WHERE g.name = $1 AND g.revoked IS NULL AND c.topic = 'identity'";
        let row: Option<(i64, String, i64, i64)> =
            sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&self.pool).await?;
        let shown = secret_hash(secret);
        let (id, kept, epoch, change) = row.unwrap_or_else(|| (-1, "0".repeat(shown.len()), 0, 0));
        let same: bool = kept.as_bytes().ct_eq(shown.as_bytes()).into();
        let proven = same && id >= 0 && secret.expose().len() <= SECRET_MAX;
        Ok(proven.then(|| Proven { id: GatewayId(id), name: name.clone(), epoch, change }))
    }

    /// A certificate that was issued here; none if it was not, or is forgotten.
    pub async fn certificate(&self, fingerprint: &Fingerprint) -> Result<Option<Certificate>, StoreError> {
        type Row = (i64, String, i64, i64, i64, i64, Option<i64>, bool);
        let sql = "SELECT g.id, g.name, g.epoch, n.number, c.issued, c.expires, c.used, \
                   c.retired IS NULL AND g.revoked IS NULL \
                   FROM certificates c JOIN gateways g ON g.id = c.gateway_id, changes n \
                   WHERE c.fingerprint = $1 AND n.topic = 'identity'";
        let row: Option<Row> = sqlx::query_as(sql).bind(fingerprint.as_str()).fetch_optional(&self.pool).await?;
        let found = |(id, name, epoch, change, issued, expires, used, counts): Row| {
            Ok(Certificate {
                gateway: Proven { id: GatewayId(id), name: gateway_name(&name)?, epoch, change },
                issued: time_from(issued)?,
                expires: time_from(expires)?,
                used: used.is_some(),
                counts,
            })
        };
        row.map(found).transpose()
    }

    /// Keeps a certificate in mind: from here on it opens the door. One that the same key was given before and did not use
    /// is forgotten.
    pub async fn note_certificate(&self, issue: Issue<'_>) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let same = "DELETE FROM certificates WHERE gateway_id = $1 AND public_key = $2 AND used IS NULL";
        sqlx::query(same).bind(issue.gateway.0).bind(issue.public_key).execute(&mut *write).await?;
        let old = "DELETE FROM certificates WHERE gateway_id = $1 AND expires < $2";
        let long_ago = issue.issued.saturating_sub(KEPT).unwrap_or(Timestamp::MIN);
        sqlx::query(old).bind(issue.gateway.0).bind(long_ago.as_millisecond()).execute(&mut *write).await?;
        let surplus = "DELETE FROM certificates WHERE gateway_id = $1 AND used IS NULL AND fingerprint NOT IN \
                       (SELECT fingerprint FROM certificates WHERE gateway_id = $1 AND used IS NULL \
                       ORDER BY issued DESC LIMIT $2)";
        sqlx::query(surplus).bind(issue.gateway.0).bind(UNUSED_MAX - 1).execute(&mut *write).await?;
        let sql = "INSERT INTO certificates (fingerprint, gateway_id, public_key, issued, expires) \
                   VALUES ($1, $2, $3, $4, $5)";
        sqlx::query(sql)
            .bind(issue.fingerprint.as_str())
            .bind(issue.gateway.0)
            .bind(issue.public_key)
            .bind(issue.issued.as_millisecond())
            .bind(issue.expires.as_millisecond())
            .execute(&mut *write)
            .await?;
        Ok(write.commit().await?)
    }

    /// Notes that a gateway came in with a certificate for the first time: those it had before no longer count, nor does
    /// the code it was got with.
    pub async fn certificate_used(&self, fingerprint: &Fingerprint, at: Timestamp) -> Result<(), StoreError> {
        let mut write = self.write().await?;
        let sql = "UPDATE certificates SET used = $1 WHERE fingerprint = $2 AND used IS NULL";
        let done = sqlx::query(sql).bind(at.as_millisecond()).bind(fingerprint.as_str()).execute(&mut *write).await?;
        if done.rows_affected() == 1 {
            let older = "UPDATE certificates SET retired = $1 WHERE retired IS NULL AND fingerprint <> $2 \
                         AND gateway_id = (SELECT gateway_id FROM certificates WHERE fingerprint = $2) \
                         AND issued <= (SELECT issued FROM certificates WHERE fingerprint = $2)";
            sqlx::query(older).bind(at.as_millisecond()).bind(fingerprint.as_str()).execute(&mut *write).await?;
            for spent in [
                "DELETE FROM claims WHERE used_by IS NOT NULL AND gateway_id = \
                 (SELECT gateway_id FROM certificates WHERE fingerprint = $1)",
                "DELETE FROM enrolments WHERE gateway_id = \
                 (SELECT gateway_id FROM certificates WHERE fingerprint = $1)",
            ] {
                sqlx::query(spent).bind(fingerprint.as_str()).execute(&mut *write).await?;
            }
        }
        Ok(write.commit().await?)
    }

    /// From now on nothing that the gateway has proves it: neither secret, certificate nor claim code. Name, devices and
    /// history stay. False if there is none of that name.
    pub async fn revoke_gateway(&self, name: &GatewayName, at: Timestamp) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let Some(id) = id_of(&mut write, name).await? else { return Ok(false) };
        retire_all(&mut write, id, at).await?;
        sqlx::query("UPDATE gateways SET revoked = $1 WHERE id = $2")
            .bind(at.as_millisecond())
            .bind(id)
            .execute(&mut *write)
            .await?;
        for sql in ["DELETE FROM claims WHERE gateway_id = $1", "DELETE FROM enrolments WHERE gateway_id = $1"] {
            sqlx::query(sql).bind(id).execute(&mut *write).await?;
        }
        write.commit().await?;
        Ok(true)
    }

    /// How many changes of identities there have been: whoever sees another number looks at [`Store::identity_epochs`].
    pub async fn identity_change(&self) -> Result<i64, StoreError> {
        let sql = "SELECT number FROM changes WHERE topic = 'identity'";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.pool).await?)
    }

    /// All gateways with what their proofs count under now.
    pub async fn identity_epochs(&self) -> Result<Vec<(GatewayId, i64)>, StoreError> {
        let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT id, epoch FROM gateways").fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|(id, epoch)| (GatewayId(id), epoch)).collect())
    }

    /// What a gateway's proofs count under now; none if it was removed.
    pub async fn identity_epoch(&self, id: GatewayId) -> Result<Option<i64>, StoreError> {
        let sql = "SELECT epoch FROM gateways WHERE id = $1";
        Ok(sqlx::query_scalar(sql).bind(id.0).fetch_optional(&self.pool).await?)
    }

    /// How a gateway proves itself; none if there is no such gateway.
    pub async fn identity(&self, name: &GatewayName) -> Result<Option<IdentityView>, StoreError> {
        let sql = "SELECT g.id, g.secret <> '', g.revoked, (SELECT MAX(expires) FROM claims c \
                   WHERE c.gateway_id = g.id AND c.used_by IS NULL) FROM gateways g WHERE g.name = $1";
        let row: Option<(i64, bool, Option<i64>, Option<i64>)> =
            sqlx::query_as(sql).bind(name.as_str()).fetch_optional(&self.pool).await?;
        let Some((id, secret, revoked, claim)) = row else { return Ok(None) };
        let sql = "SELECT fingerprint, issued, expires, used, retired FROM certificates WHERE gateway_id = $1 \
                   ORDER BY issued DESC, fingerprint";
        type Row = (String, i64, i64, Option<i64>, Option<i64>);
        let rows: Vec<Row> = sqlx::query_as(sql).bind(id).fetch_all(&self.pool).await?;
        let view = |(fingerprint, issued, expires, used, retired): Row| {
            Ok::<_, StoreError>(CertificateView {
                fingerprint,
                issued: time_from(issued)?,
                expires: time_from(expires)?,
                used: used.map(time_from).transpose()?,
                retired: retired.map(time_from).transpose()?,
            })
        };
        Ok(Some(IdentityView {
            secret,
            revoked: revoked.map(time_from).transpose()?,
            claim_expires: claim.map(time_from).transpose()?,
            certificates: rows.into_iter().map(view).collect::<Result<_, _>>()?,
        }))
    }
}

pub(super) async fn id_of(
    write: &mut Transaction<'static, Sqlite>,
    name: &GatewayName,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT id FROM gateways WHERE name = $1";
    Ok(sqlx::query_scalar(sql).bind(name.as_str()).fetch_optional(&mut **write).await?)
}

/// All that proved a gateway until now does so no more, here and in the server's process.
pub(super) async fn retire_all(
    write: &mut Transaction<'static, Sqlite>,
    id: i64,
    at: Timestamp,
) -> Result<(), StoreError> {
    let sql = "UPDATE certificates SET retired = $1 WHERE gateway_id = $2 AND retired IS NULL";
    sqlx::query(sql).bind(at.as_millisecond()).bind(id).execute(&mut **write).await?;
    let sql = "UPDATE gateways SET secret = '', epoch = epoch + 1 WHERE id = $1";
    sqlx::query(sql).bind(id).execute(&mut **write).await?;
    identities_changed(write).await
}

/// Makes the server's process look at all identities again.
pub(super) async fn identities_changed(write: &mut Transaction<'static, Sqlite>) -> Result<(), StoreError> {
    sqlx::query("UPDATE changes SET number = number + 1 WHERE topic = 'identity'").execute(&mut **write).await?;
    Ok(())
}

/// A secret of 256 random bits needs no slow hash: nobody guesses it.
pub(super) fn secret_hash(secret: &Secret) -> String {
    sha256_hex(secret.expose().as_bytes())
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(digest(&SHA256, bytes).as_ref())
}
