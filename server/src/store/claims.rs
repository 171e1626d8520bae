//! Claim codes: one code makes one router the gateway it was given for.

use jiff::Timestamp;
use linkspan_protocol::code::ClaimCode;
use linkspan_protocol::id::GatewayName;

use super::gateways::gateway_name;
use super::identity::{id_of, retire_all, sha256_hex};
use super::{GatewayId, Store, StoreError, fresh_id};
use crate::rights::TenantId;

/// A claim code to be kept, as its hash.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The code.
    pub code: &'a ClaimCode,
    /// Since when it is good.
    pub created: Timestamp,
    /// Until when.
    pub expires: Timestamp,
}

impl Store {
    /// Adds a gateway that nothing proves yet but a claim code; none if the name is taken, by whomever.
    pub async fn add_gateway_to_claim(
        &self,
        tenant: TenantId,
        name: &GatewayName,
        claim: Claim<'_>,
    ) -> Result<Option<GatewayId>, StoreError> {
        let id = fresh_id()?;
        let mut write = self.write().await?;
        let sql = "INSERT INTO gateways (id, tenant_id, name, secret, created) VALUES ($1, $2, $3, '', $4) \
                   ON CONFLICT (name) DO NOTHING";
        let done = sqlx::query(sql)
            .bind(id)
            .bind(tenant.0)
            .bind(name.as_str())
            .bind(claim.created.as_millisecond())
            .execute(&mut *write)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(None);
        }
        insert(&mut write, id, claim).await?;
        write.commit().await?;
        Ok(Some(GatewayId(id)))
    }

    /// Gives a gateway that is known a claim code for another router; codes it had before are void. What it proves itself
    /// with now ends when the code is used, or `at_once`. False if there is no such gateway.
    pub async fn claim_again(&self, name: &GatewayName, claim: Claim<'_>, at_once: bool) -> Result<bool, StoreError> {
        let mut write = self.write().await?;
        let Some(id) = id_of(&mut write, name).await? else { return Ok(false) };
        if at_once {
            retire_all(&mut write, id, claim.created).await?;
        }
        sqlx::query("DELETE FROM claims WHERE gateway_id = $1").bind(id).execute(&mut *write).await?;
        insert(&mut write, id, claim).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Uses a code up for a public key: whose it was. The same key may ask again until its certificate was seen. Unknown,
    /// used and expired codes cost the same: one look.
    pub async fn redeem_claim(
        &self,
        code: &ClaimCode,
        public_key: &str,
        now: Timestamp,
    ) -> Result<Option<(GatewayId, GatewayName)>, StoreError> {
        const GOOD: &str = "SELECT c.gateway_id, g.name, c.used_by IS NULL FROM claims c \
                            JOIN gateways g ON g.id = c.gateway_id \
                            WHERE c.code = $1 AND ((c.used_by IS NULL AND c.expires > $2) OR c.used_by = $3)";
        type Row = (i64, String, bool);
        let good =
            || sqlx::query_as::<_, Row>(GOOD).bind(hash(code)).bind(now.as_millisecond()).bind(public_key.to_owned());
        if good().fetch_optional(&self.pool).await?.is_none() {
            return Ok(None);
        }
        let mut write = self.write().await?;
        // Asked again with the lock held: of many at once, one wins.
        let Some((id, name, fresh)) = good().fetch_optional(&mut *write).await? else { return Ok(None) };
        if fresh {
            let sql = "UPDATE claims SET used_by = $1 WHERE code = $2";
            sqlx::query(sql).bind(public_key).bind(hash(code)).execute(&mut *write).await?;
            retire_all(&mut write, id, now).await?;
            sqlx::query("UPDATE gateways SET revoked = NULL WHERE id = $1").bind(id).execute(&mut *write).await?;
        }
        write.commit().await?;
        Ok(Some((GatewayId(id), gateway_name(&name)?)))
    }

    /// Forgets codes that nobody can use any more.
    pub async fn forget_old_claims(&self, before: Timestamp) -> Result<(), StoreError> {
        let sql = "DELETE FROM claims WHERE expires < $1";
        sqlx::query(sql).bind(before.as_millisecond()).execute(&self.pool).await?;
        Ok(())
    }
}

async fn insert(
    write: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    gateway: i64,
    claim: Claim<'_>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO claims (code, gateway_id, created, expires) VALUES ($1, $2, $3, $4)";
    sqlx::query(sql)
        .bind(hash(claim.code))
        .bind(gateway)
        .bind(claim.created.as_millisecond())
        .bind(claim.expires.as_millisecond())
        .execute(&mut **write)
        .await?;
    Ok(())
}

fn hash(code: &ClaimCode) -> String {
    sha256_hex(code.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::tests::fresh;
    use crate::store::{Fingerprint, Issue};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn code(n: u8) -> ClaimCode {
        ClaimCode::from_random([n; 15])
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn claim(code: &ClaimCode) -> Claim<'_> {
        Claim { code, created: start(), expires: start() + DAY }
    }

    fn site12() -> GatewayName {
        "site12".parse().unwrap()
    }

    #[tokio::test]
    async fn a_code_is_good_once_and_in_time_and_for_its_first_key_again() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway_to_claim(TenantId::DEFAULT, &site12(), claim(&code(1))).await.unwrap().unwrap();
        assert_eq!(
            store.add_gateway_to_claim(TenantId::DEFAULT, &site12(), claim(&code(2))).await.unwrap(),
            None,
            "taken"
        );
        assert_eq!(store.redeem_claim(&code(2), "key", start()).await.unwrap(), None, "unknown");
        assert_eq!(store.redeem_claim(&code(1), "key", start() + DAY).await.unwrap(), None, "expired");
        let won = Some((id, site12()));
        assert_eq!(store.redeem_claim(&code(1), "key", start()).await.unwrap(), won);
        assert_eq!(store.redeem_claim(&code(1), "other", start()).await.unwrap(), None, "used");
        assert_eq!(store.redeem_claim(&code(1), "key", start() + 3 * DAY).await.unwrap(), won, "the answer was lost");
        let fingerprint = Fingerprint::of(b"certificate");
        let issue = Issue {
            gateway: id,
            fingerprint: &fingerprint,
            public_key: "key",
            issued: start(),
            expires: start() + DAY,
        };
        store.note_certificate(issue).await.unwrap();
        store.certificate_used(&fingerprint, start()).await.unwrap();
        assert_eq!(store.redeem_claim(&code(1), "key", start()).await.unwrap(), None, "it has arrived");
    }

    #[tokio::test]
    async fn of_fifty_at_once_one_wins() {
        let (_dir, store) = fresh().await;
        store.add_gateway_to_claim(TenantId::DEFAULT, &site12(), claim(&code(1))).await.unwrap().unwrap();
        let mut all = tokio::task::JoinSet::new();
        for n in 0..50 {
            let store = store.clone();
            all.spawn(async move { store.redeem_claim(&code(1), &format!("key{n}"), start()).await.unwrap() });
        }
        let won = all.join_all().await.into_iter().flatten().count();
        assert_eq!(won, 1);
    }

    #[tokio::test]
    async fn another_router_takes_over_when_it_enrols_or_at_once() {
        let (_dir, store) = fresh().await;
        let secret = linkspan_protocol::id::Secret::new("s");
        store.add_gateway(&site12(), &secret).await.unwrap().unwrap();
        let good = async || store.check_gateway(&site12(), &secret).await.unwrap().is_some();
        let before = store.identity_change().await.unwrap();
        assert!(store.claim_again(&site12(), claim(&code(1)), false).await.unwrap());
        assert!(good().await);
        assert!(store.claim_again(&site12(), claim(&code(2)), false).await.unwrap());
        assert_eq!(store.redeem_claim(&code(1), "key", start()).await.unwrap(), None, "void");
        assert!(good().await);
        assert!(store.redeem_claim(&code(2), "key", start()).await.unwrap().is_some());
        assert!(!good().await);
        assert!(store.identity_change().await.unwrap() > before, "the server's process must see it");

        let name: GatewayName = "site13".parse().unwrap();
        store.add_gateway(&name, &secret).await.unwrap().unwrap();
        store.claim_again(&name, claim(&code(3)), true).await.unwrap();
        assert_eq!(store.check_gateway(&name, &secret).await.unwrap(), None);
        assert!(!store.claim_again(&"site14".parse().unwrap(), claim(&code(4)), false).await.unwrap());
    }

    #[tokio::test]
    async fn what_is_revoked_proves_nothing_until_another_router_enrols() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway_to_claim(TenantId::DEFAULT, &site12(), claim(&code(1))).await.unwrap().unwrap();
        store.redeem_claim(&code(1), "key", start()).await.unwrap().unwrap();
        let fingerprint = Fingerprint::of(b"certificate");
        let issue = Issue {
            gateway: id,
            fingerprint: &fingerprint,
            public_key: "key",
            issued: start(),
            expires: start() + DAY,
        };
        store.note_certificate(issue).await.unwrap();
        assert!(store.certificate(&fingerprint).await.unwrap().unwrap().counts);
        assert!(store.revoke_gateway(&site12(), start()).await.unwrap());
        assert!(!store.certificate(&fingerprint).await.unwrap().unwrap().counts);
        assert_eq!(store.redeem_claim(&code(1), "key", start()).await.unwrap(), None);
        store.claim_again(&site12(), claim(&code(2)), false).await.unwrap();
        store.redeem_claim(&code(2), "new", start()).await.unwrap().unwrap();
        assert!(!store.certificate(&fingerprint).await.unwrap().unwrap().counts, "the old one stays dead");
        assert_eq!(store.identity(&site12()).await.unwrap().unwrap().revoked, None);
    }

    #[tokio::test]
    async fn a_newer_certificate_ends_the_older_ones_when_it_is_used() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway_to_claim(TenantId::DEFAULT, &site12(), claim(&code(1))).await.unwrap().unwrap();
        let [one, two, three] = [b"1", b"2", b"3"].map(|der| Fingerprint::of(der));
        for (n, fingerprint) in [&one, &two, &three].into_iter().enumerate() {
            let issued = start() + Duration::from_secs(n as u64);
            let public_key = &format!("key{n}");
            store
                .note_certificate(Issue { gateway: id, fingerprint, public_key, issued, expires: issued + DAY })
                .await
                .unwrap();
        }
        let counts = async |fingerprint| store.certificate(fingerprint).await.unwrap().unwrap().counts;
        assert!(counts(&one).await && counts(&two).await && counts(&three).await);
        store.certificate_used(&two, start()).await.unwrap();
        assert!(!counts(&one).await && counts(&two).await && counts(&three).await);
    }
}
