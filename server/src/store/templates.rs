//! Templates: documents for all gateways that carry certain tags, numbered and never changed.

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::{Store, StoreError, damaged, fresh_id, time_from};
use crate::rights::TenantId;

/// A template with one of its revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// In the database.
    pub id: i64,
    /// Whose it is.
    pub tenant: TenantId,
    /// Unique in the organisation.
    pub name: String,
    /// The revision.
    pub revision: TemplateRevision,
}

/// One revision of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateRevision {
    /// Counts from 1 for each template.
    pub number: i64,
    /// A gateway is meant that carries all of them.
    pub tags: Vec<String>,
    /// The text.
    pub document: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub comment: String,
}

/// A revision to be kept.
#[derive(Clone, Copy, Debug)]
pub struct NewTemplate<'a> {
    /// A gateway is meant that carries all of them.
    pub tags: &'a [String],
    /// The text.
    pub document: &'a str,
    /// Who wrote it.
    pub author: &'a str,
    /// Why.
    pub comment: &'a str,
}

type RevisionRow = (i64, String, String, String, i64, String);
type Row = (i64, i64, String, i64, String, String, String, i64, String);

const COLUMNS: &str = "t.id, t.tenant_id, t.name, r.number, r.tags";
const NEWEST: &str = "r.author, r.at, r.comment FROM templates t JOIN template_revisions r ON r.template_id = t.id \
                      AND r.number = (SELECT MAX(n.number) FROM template_revisions n WHERE n.template_id = t.id)";

impl Store {
    /// Makes a template with its first revision; false if there is one of this name.
    pub async fn add_template(&self, tenant: TenantId, name: &str, new: NewTemplate<'_>) -> Result<bool, StoreError> {
        let id = fresh_id()?;
        let mut write = self.write().await?;
        let sql =
            "INSERT INTO templates (id, tenant_id, name) VALUES ($1, $2, $3) ON CONFLICT (tenant_id, name) DO NOTHING";
        let done = sqlx::query(sql).bind(id).bind(tenant.0).bind(name).execute(&mut *write).await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        insert(&mut write, (id, 1), new).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Keeps a document as the next revision, if the newest one is still this one; its number, or none.
    pub async fn add_template_revision(
        &self,
        template: i64,
        newest: i64,
        new: NewTemplate<'_>,
    ) -> Result<Option<i64>, StoreError> {
        let mut write = self.write().await?;
        let sql = "SELECT COALESCE(MAX(number), 0) FROM template_revisions WHERE template_id = $1";
        let (now,): (i64,) = sqlx::query_as(sql).bind(template).fetch_one(&mut *write).await?;
        if now != newest {
            return Ok(None);
        }
        insert(&mut write, (template, now + 1), new).await?;
        write.commit().await?;
        Ok(Some(now + 1))
    }

    /// The templates of an organisation by name, each with its newest revision, without their documents.
    pub async fn templates(&self, tenant: TenantId) -> Result<Vec<Template>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, '', {NEWEST} WHERE t.tenant_id = $1 ORDER BY t.name");
        let rows: Vec<Row> = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(tenant.0).fetch_all(&self.pool).await?;
        rows.into_iter().map(template).collect()
    }

    /// A template with its newest revision.
    pub async fn template(&self, tenant: TenantId, name: &str) -> Result<Option<Template>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, r.document, {NEWEST} WHERE t.tenant_id = $1 AND t.name = $2");
        let row: Option<Row> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(tenant.0).bind(name).fetch_optional(&self.pool).await?;
        row.map(template).transpose()
    }

    /// A revision of a template.
    pub async fn template_revision(&self, id: i64, number: i64) -> Result<Option<TemplateRevision>, StoreError> {
        let sql = "SELECT number, tags, document, author, at, comment FROM template_revisions \
                   WHERE template_id = $1 AND number = $2";
        let row: Option<RevisionRow> = sqlx::query_as(sql).bind(id).bind(number).fetch_optional(&self.pool).await?;
        row.map(revision).transpose()
    }

    /// The revisions of a template before a number, the newest first, without their documents.
    pub async fn template_revisions(
        &self,
        id: i64,
        before: i64,
        most: usize,
    ) -> Result<Vec<TemplateRevision>, StoreError> {
        let sql = "SELECT number, tags, '', author, at, comment FROM template_revisions \
                   WHERE template_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
        let rows: Vec<RevisionRow> = sqlx::query_as(sql)
            .bind(id)
            .bind(before)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(revision).collect()
    }

    /// Removes a template; what gateways were given by it stays. False if there was none of this name.
    pub async fn remove_template(&self, tenant: TenantId, name: &str) -> Result<bool, StoreError> {
        let sql = "DELETE FROM templates WHERE tenant_id = $1 AND name = $2";
        let done = sqlx::query(sql).bind(tenant.0).bind(name).execute(&self.pool).await?;
        Ok(done.rows_affected() == 1)
    }
}

async fn insert(
    write: &mut Transaction<'_, Sqlite>,
    (template, number): (i64, i64),
    new: NewTemplate<'_>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO template_revisions (template_id, number, tags, document, author, at, comment) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let tags = serde_json::to_string(new.tags).map_err(|error| damaged("list of tags")(&error.to_string()))?;
    sqlx::query(sql)
        .bind(template)
        .bind(number)
        .bind(tags)
        .bind(new.document)
        .bind(new.author)
        .bind(Timestamp::now().as_millisecond())
        .bind(new.comment)
        .execute(&mut **write)
        .await?;
    Ok(())
}

fn template((id, tenant, name, number, tags, document, author, at, comment): Row) -> Result<Template, StoreError> {
    let revision = revision((number, tags, document, author, at, comment))?;
    Ok(Template { id, tenant: TenantId(tenant), name, revision })
}

fn revision((number, tags, document, author, at, comment): RevisionRow) -> Result<TemplateRevision, StoreError> {
    let tags = serde_json::from_str(&tags).map_err(|error| damaged("list of tags")(&error.to_string()))?;
    Ok(TemplateRevision { number, tags, document, author, at: time_from(at)?, comment })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn revisions_are_numbered_and_nobody_writes_over_another() {
        let (_dir, store) = fresh().await;
        let tags = ["pump".to_owned()];
        let new = |document| NewTemplate { tags: &tags, document, author: "anna", comment: "c" };
        let tenant = TenantId::DEFAULT;
        assert!(store.add_template(tenant, "pumps", new("one")).await.unwrap());
        assert!(!store.add_template(tenant, "pumps", new("other")).await.unwrap(), "taken");
        let id = store.template(tenant, "pumps").await.unwrap().unwrap().id;
        assert_eq!(store.add_template_revision(id, 0, new("late")).await.unwrap(), None);
        assert_eq!(store.add_template_revision(id, 1, new("two")).await.unwrap(), Some(2));
        let newest = store.template(tenant, "pumps").await.unwrap().unwrap().revision;
        assert_eq!((newest.number, newest.document.as_str(), newest.tags), (2, "two", tags.to_vec()));
        assert_eq!(store.template_revision(id, 1).await.unwrap().unwrap().document, "one");
        assert_eq!(store.template_revisions(id, 2, 10).await.unwrap().len(), 1);
        let listed = store.templates(tenant).await.unwrap();
        assert_eq!((listed.len(), listed[0].revision.document.as_str()), (1, ""));
        assert!(store.remove_template(tenant, "pumps").await.unwrap());
        assert!(!store.remove_template(tenant, "pumps").await.unwrap());
        assert_eq!(store.template_revision(id, 1).await.unwrap(), None);
    }
}
