//! The logins that programs of a shop have in production, with just their rights: what is written against them here is not
//! refused for the first time there.

use sqlx::{Connection, PgConnection};
use url::Url;

use super::super::output::Error;

/// One that programs may use.
pub(super) struct Login {
    pub(super) name: &'static str,
    pub(super) role: &'static str,
    pub(super) url: Url,
}

/// Name and role.
const LOGINS: [(&str, &str); 2] = [("shop", "capture_producer"), ("warehouse", "capture_fulfilment")];

/// What dev leaves at what it made; somebody else's role of the same name is left as it is, and not told.
const MARK: &str = "made by capture dev";

/// Makes those that are missing, each with the server's own password and a schema of its name.
pub(super) async fn provide(superuser: &str) -> Result<Vec<Login>, Error> {
    let mut connection = PgConnection::connect(superuser).await.map_err(cannot)?;
    let mut there = Vec::new();
    for (name, role) in LOGINS {
        let Some(url) = of(superuser, name) else { continue };
        // Words of this program's own, and a password in hexadecimal digits.
        let password = url.password().unwrap_or_default().replace('\'', "''");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "do $do$ begin
                if not exists (select from pg_roles where rolname = '{name}') then
                    create role {name} login password '{password}' in role {role};
                    comment on role {name} is '{MARK}';
                end if;
                if shobj_description('{name}'::regrole, 'pg_authid') = '{MARK}' then
                    create schema if not exists {name} authorization {name};
                end if;
            end $do$"
        )))
        .execute(&mut connection)
        .await
        .map_err(cannot)?;
        let ours: bool =
            sqlx::query_scalar("select coalesce(shobj_description($1::text::regrole, 'pg_authid') = $2, false)")
                .bind(name)
                .bind(MARK)
                .fetch_one(&mut connection)
                .await
                .map_err(cannot)?;
        if ours {
            there.push(Login { name, role, url });
        }
    }
    connection.close().await.map_err(cannot)?;
    Ok(there)
}

fn of(superuser: &str, login: &str) -> Option<Url> {
    let mut url = Url::parse(superuser).ok()?;
    url.set_username(login).ok()?;
    Some(url)
}

fn cannot(error: sqlx::Error) -> Error {
    Error::failed(format!("cannot make the logins of a shop: {error}"))
}
