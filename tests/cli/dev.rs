//! `dev`.

use std::path::PathBuf;

use rustix::process::Signal;
use sqlx::{Connection, PgConnection};

use super::place::Place;

/// A directory that the server's user can reach, which what is below a developer's home often is not.
struct Reachable(PathBuf);

impl Reachable {
    fn new() -> Reachable {
        let directory = PathBuf::from(format!("/tmp/capture-dev-{}", uuid::Uuid::new_v4().simple()));
        Reachable(directory)
    }
}

impl Drop for Reachable {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn a_directory_that_another_version_made_is_named_and_how_to_be_rid_of_it() {
    let place = Place::empty();
    let directory = Reachable::new();
    let directory = directory.0.to_str().unwrap();
    let mut dev = place.start(&["dev", "--dir", directory]);
    let first = dev.stdout.next_line().await.unwrap().unwrap();
    let url = first.strip_prefix("database").unwrap().trim();
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql("update capture._sqlx_migrations set checksum = '\\x00' where version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().await, Some(0));

    let run = place.run(&["dev", "--dir", directory]).await.ends_with(5);
    assert!(
        run.stderr.contains("its migration 2 is not the one of this"),
        "{run:#?}"
    );
    assert!(run.stderr.contains(&format!("rm -r '{directory}'")), "{run:#?}");
}

#[tokio::test]
async fn a_shop_and_a_warehouse_find_logins_with_just_their_rights_and_find_them_again() {
    let place = Place::empty();
    let directory = Reachable::new();
    let directory = directory.0.to_str().unwrap();
    let mut passwords = Vec::new();
    for start in 1..=2 {
        let mut dev = place.start(&["dev", "--dir", directory]);
        let mut urls = std::collections::BTreeMap::new();
        while urls.len() < 2 {
            let line = dev.stdout.next_line().await.unwrap().unwrap();
            assert!(!line.starts_with("simulator"), "no logins before it: {urls:?}");
            let mut words = line.split_whitespace();
            if let Some(name @ ("shop" | "warehouse")) = words.next() {
                urls.insert(name.to_owned(), words.next().unwrap().to_owned());
            }
        }
        let mut shop = PgConnection::connect(&urls["shop"]).await.unwrap();
        let enqueued = format!(
            "create table orders_{start} (id text);
             select capture.enqueue(provider => 'afterpay', order_id => 'A-{start}', payment_id => '10{start}', capture_ref => 'A-{start}',
                 amount_minor => 100, currency => 'USD', hold => 'shipment')"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(enqueued))
            .execute(&mut shop)
            .await
            .unwrap();
        let released = format!(
            "select capture.release(provider => 'afterpay', payment_id => '10{start}', shipment_ref => 'p-{start}')"
        );
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(released.clone()))
            .execute(&mut shop)
            .await
            .unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"));
        let mut warehouse = PgConnection::connect(&urls["warehouse"]).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(released))
            .execute(&mut warehouse)
            .await
            .unwrap();
        shop.close().await.unwrap();
        warehouse.close().await.unwrap();
        passwords.push(url::Url::parse(&urls["shop"]).unwrap().password().unwrap().to_owned());
        dev.signal(Signal::INT);
        assert_eq!(dev.ended().await, Some(0));
    }
    assert_eq!(passwords[0], passwords[1]);
}
