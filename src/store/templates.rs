//! Templates, as the text the sandbox layer makes of them.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError, from_millis, to_millis};

/// A template as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRow {
    /// Unique within its tenant.
    pub name: String,
    /// JSON.
    pub body: String,
    /// When it was made.
    pub created_at: SystemTime,
    /// When its body last changed.
    pub updated_at: SystemTime,
}

/// What came of adding a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New(TemplateRow),
    /// There is one of that name; it was left as it is.
    Exists(TemplateRow),
    /// The tenant has as many as it may have.
    Full,
}

impl Store {
    /// Adds a template to a tenant that has fewer than `max`.
    ///
    /// # Errors
    /// When the database fails; so for every method here.
    pub async fn add_template(
        &self,
        tenant: String,
        name: String,
        body: String,
        max: usize,
    ) -> Result<Added, StoreError> {
        let now = to_millis(SystemTime::now());
        self.run(move |db| {
            if let Some(row) = find(db, &tenant, &name)? {
                return Ok(Added::Exists(row));
            }
            let count: i64 = db
                .prepare_cached("SELECT count(*) FROM templates WHERE tenant = ?1")?
                .query_row([&tenant], |row| row.get(0))?;
            if usize::try_from(count).is_ok_and(|count| count >= max) {
                return Ok(Added::Full);
            }
            db.prepare_cached(
                "INSERT INTO templates (tenant, name, body, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            )?
            .execute(params![tenant, name, body, now])?;
            Ok(Added::New(TemplateRow {
                name,
                body,
                created_at: from_millis(now),
                updated_at: from_millis(now),
            }))
        })
        .await
    }

    /// Replaces the body of a template; `None` when there is none of that name.
    ///
    /// # Errors
    /// See [`Store::add_template`].
    pub async fn update_template(
        &self,
        tenant: String,
        name: String,
        body: String,
    ) -> Result<Option<TemplateRow>, StoreError> {
        let now = to_millis(SystemTime::now());
        self.run(move |db| {
            db.prepare_cached("UPDATE templates SET body = ?3, updated_at = ?4 WHERE tenant = ?1 AND name = ?2")?
                .execute(params![tenant, name, body, now])?;
            find(db, &tenant, &name)
        })
        .await
    }

    /// The template of this name.
    ///
    /// # Errors
    /// See [`Store::add_template`].
    pub async fn template(&self, tenant: String, name: String) -> Result<Option<TemplateRow>, StoreError> {
        self.run(move |db| find(db, &tenant, &name)).await
    }

    /// All templates of a tenant, by name.
    ///
    /// # Errors
    /// See [`Store::add_template`].
    pub async fn templates(&self, tenant: String) -> Result<Vec<TemplateRow>, StoreError> {
        self.run(move |db| {
            db.prepare_cached(
                "SELECT name, body, created_at, updated_at FROM templates WHERE tenant = ?1 ORDER BY name",
            )?
            .query_map([tenant], template_row)?
            .collect()
        })
        .await
    }

    /// Removes a template; `false` when there is none of that name.
    ///
    /// # Errors
    /// See [`Store::add_template`].
    pub async fn delete_template(&self, tenant: String, name: String) -> Result<bool, StoreError> {
        self.run(move |db| {
            let removed = db
                .prepare_cached("DELETE FROM templates WHERE tenant = ?1 AND name = ?2")?
                .execute([tenant, name])?;
            Ok(removed > 0)
        })
        .await
    }
}

fn find(db: &Connection, tenant: &str, name: &str) -> rusqlite::Result<Option<TemplateRow>> {
    db.prepare_cached("SELECT name, body, created_at, updated_at FROM templates WHERE tenant = ?1 AND name = ?2")?
        .query_row([tenant, name], template_row)
        .optional()
}

fn template_row(row: &Row<'_>) -> rusqlite::Result<TemplateRow> {
    Ok(TemplateRow {
        name: row.get(0)?,
        body: row.get(1)?,
        created_at: from_millis(row.get(2)?),
        updated_at: from_millis(row.get(3)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[tokio::test]
    async fn templates_of_tenants_are_apart() {
        let store = Store::in_memory().unwrap();
        let (a, b) = (text("a"), text("b"));
        let added = store.add_template(a.clone(), text("t"), text("1"), 9).await.unwrap();
        assert!(matches!(added, Added::New(_)));
        let added = store.add_template(b.clone(), text("t"), text("2"), 9).await.unwrap();
        assert!(matches!(added, Added::New(_)));
        let again = store.add_template(a.clone(), text("t"), text("3"), 9).await.unwrap();
        assert!(matches!(again, Added::Exists(row) if row.body == "1"));
        let updated = store.update_template(a.clone(), text("t"), text("4")).await.unwrap();
        assert_eq!(updated.unwrap().body, "4");
        assert!(store.delete_template(b.clone(), text("t")).await.unwrap());
        assert!(!store.delete_template(b.clone(), text("t")).await.unwrap());
        assert_eq!(store.template(b.clone(), text("t")).await.unwrap(), None);
        assert_eq!(
            store.update_template(b.clone(), text("t"), text("5")).await.unwrap(),
            None
        );
        assert_eq!(store.templates(b).await.unwrap(), []);
        assert_eq!(store.templates(a).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_tenant_has_room_for_so_many() {
        let store = Store::in_memory().unwrap();
        let add = |name: &str| store.add_template(text("a"), text(name), text("{}"), 2);
        assert!(matches!(add("1").await.unwrap(), Added::New(_)));
        assert!(matches!(add("2").await.unwrap(), Added::New(_)));
        assert_eq!(add("3").await.unwrap(), Added::Full);
        // What is there already takes no room.
        assert!(matches!(add("2").await.unwrap(), Added::Exists(_)));
    }
}
