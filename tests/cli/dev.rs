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
