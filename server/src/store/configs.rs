//! Configurations of gateways: their documents, numbered and never changed, and what each gateway lives by.

use jiff::Timestamp;

use sqlx::{Sqlite, Transaction};

use super::{GatewayId, Store, StoreError, time_from};

/// A document of a gateway's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Counts from 1 for each gateway.
    pub number: i64,
    /// The text.
    pub document: String,
    /// Who wrote it.
    pub author: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub comment: String,
    /// The template that it was made from, and its revision.
    pub template: Option<(String, i64)>,
}

/// A document to be kept.
#[derive(Clone, Copy, Debug)]
pub struct NewRevision<'a> {
    /// The text.
    pub document: &'a str,
    /// Who wrote it.
    pub author: &'a str,
    /// Why.
    pub comment: &'a str,
    /// The template that it was made from, and its revision.
    pub template: Option<(&'a str, i64)>,
}

/// What a gateway last said of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigReport {
    /// The revision that it lives by; the router's own file, if none.
    pub revision: Option<i64>,
    /// SHA-256 of the document.
    pub sha256: String,
    /// The document, if it is known.
    pub document: Option<String>,
    /// Somebody has edited it on the router.
    pub edited: bool,
    /// The router's owner takes nothing from the server.
    pub own_only: bool,
    /// When it said so.
    pub at: Timestamp,
}

type RevisionRow = (i64, String, String, i64, String, Option<String>, Option<i64>);

impl Store {
    /// Keeps a document as the next revision, if the newest one is still this one; its number, or none.
    pub async fn add_revision(
        &self,
        gateway: GatewayId,
        newest: i64,
        new: NewRevision<'_>,
    ) -> Result<Option<i64>, StoreError> {
        let mut write = self.write().await?;
        let number = insert_revision(&mut write, gateway, newest, new).await?;
        if number.is_some() {
            write.commit().await?;
        }
        Ok(number)
    }

    /// A revision of a gateway; the newest, if no number is given.
    pub async fn revision(&self, gateway: GatewayId, number: Option<i64>) -> Result<Option<Revision>, StoreError> {
        let sql = "SELECT number, document, author, at, comment, template, template_revision FROM config_revisions \
                   WHERE gateway_id = $1 AND ($2 IS NULL OR number = $2) ORDER BY number DESC LIMIT 1";
        let row: Option<RevisionRow> =
            sqlx::query_as(sql).bind(gateway.0).bind(number).fetch_optional(&self.pool).await?;
        row.map(revision).transpose()
    }

    /// The revisions of a gateway before a number, the newest first, without their documents.
    pub async fn revisions(&self, gateway: GatewayId, before: i64, most: usize) -> Result<Vec<Revision>, StoreError> {
        let sql = "SELECT number, '', author, at, comment, template, template_revision FROM config_revisions \
                   WHERE gateway_id = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
        let rows: Vec<RevisionRow> = sqlx::query_as(sql)
            .bind(gateway.0)
            .bind(before)
            .bind(i64::try_from(most).unwrap_or(i64::MAX))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(revision).collect()
    }

    /// Notes what a gateway says of its configuration. A document that is known already stays known. Nothing is written if
    /// it is what is known.
    pub async fn keep_config_report(&self, gateway: GatewayId, report: &ConfigReport) -> Result<(), StoreError> {
        let known = self.config_report(gateway).await?;
        let document = report.document.clone().or_else(|| {
            known.as_ref().filter(|known| known.sha256 == report.sha256).and_then(|known| known.document.clone())
        });
        let report = ConfigReport { document, ..report.clone() };
        if known.is_some_and(|known| ConfigReport { at: report.at, ..known } == report) {
            return Ok(());
        }
        let sql = "INSERT INTO config_reports (gateway_id, revision, sha256, document, edited, own_only, at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (gateway_id) DO UPDATE SET \
                   revision = $2, sha256 = $3, document = $4, edited = $5, own_only = $6, at = $7";
        sqlx::query(sql)
            .bind(gateway.0)
            .bind(report.revision)
            .bind(&report.sha256)
            .bind(&report.document)
            .bind(i64::from(report.edited))
            .bind(i64::from(report.own_only))
            .bind(report.at.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What a gateway last said of its configuration.
    pub async fn config_report(&self, gateway: GatewayId) -> Result<Option<ConfigReport>, StoreError> {
        type Row = (Option<i64>, String, Option<String>, i64, i64, i64);
        let sql = "SELECT revision, sha256, document, edited, own_only, at FROM config_reports WHERE gateway_id = $1";
        let row: Option<Row> = sqlx::query_as(sql).bind(gateway.0).fetch_optional(&self.pool).await?;
        let Some((revision, sha256, document, edited, own_only, at)) = row else { return Ok(None) };
        let (edited, own_only, at) = (edited != 0, own_only != 0, time_from(at)?);
        Ok(Some(ConfigReport { revision, sha256, document, edited, own_only, at }))
    }
}

/// Keeps a document as the next revision, if the newest one is still this one; its number, or none.
pub(super) async fn insert_revision(
    write: &mut Transaction<'_, Sqlite>,
    gateway: GatewayId,
    newest: i64,
    new: NewRevision<'_>,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT COALESCE(MAX(number), 0) FROM config_revisions WHERE gateway_id = $1";
    let (now,): (i64,) = sqlx::query_as(sql).bind(gateway.0).fetch_one(&mut **write).await?;
    if now != newest {
        return Ok(None);
    }
    let sql = "INSERT INTO config_revisions \
               (gateway_id, number, document, author, at, comment, template, template_revision) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(sql)
        .bind(gateway.0)
        .bind(now + 1)
        .bind(new.document)
        .bind(new.author)
        .bind(Timestamp::now().as_millisecond())
        .bind(new.comment)
        .bind(new.template.map(|(name, _)| name))
        .bind(new.template.map(|(_, number)| number))
        .execute(&mut **write)
        .await?;
    Ok(Some(now + 1))
}

fn revision(row: RevisionRow) -> Result<Revision, StoreError> {
    let (number, document, author, at, comment, template, template_revision) = row;
    Ok(Revision { number, document, author, at: time_from(at)?, comment, template: template.zip(template_revision) })
}
