//! A reader of the event feed that keeps its cursor all through the trouble.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection, PgConnection, Row};
use uuid::Uuid;

use super::cluster::{Who, options};
use super::stage::{Stage, locked};

#[derive(Debug, Default)]
pub struct Feed {
    seen: Mutex<BTreeSet<Uuid>>,
    /// Events that came a second time in one history.
    pub repeated: AtomicU64,
    /// How often its cursor was of a lost history, and it began anew.
    pub refused: AtomicU64,
    over: AtomicBool,
}

impl Feed {
    /// Reads on and on, until told to end and nothing more comes.
    pub async fn read(self: Arc<Feed>, stage: Arc<Stage>) {
        let mut cursor: Option<String> = None;
        let mut in_history = BTreeSet::new();
        let mut connection: Option<PgConnection> = None;
        loop {
            if connection.is_none() {
                let socket = stage.primary.borrow().socket.clone();
                if let Some(socket) = socket {
                    connection = PgConnection::connect_with(&options(&socket, Who::Shop)).await.ok();
                }
            }
            let over = self.over.load(Ordering::SeqCst);
            let Some(session) = connection.as_mut() else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let page = sqlx::query("select cursor, id from capture.events_after($1, 500)")
                .bind(&cursor)
                .fetch_all(session);
            let page = tokio::time::timeout(Duration::from_secs(10), page).await;
            if let Ok(Err(sqlx::Error::Database(refused))) = &page
                && refused.constraint() == Some("events_cursor_of_this_history")
            {
                // Nobody told it of the fail-over. It begins anew, and knows events by their ids.
                self.refused.fetch_add(1, Ordering::Relaxed);
                cursor = None;
                in_history.clear();
                continue;
            }
            let Ok(Ok(rows)) = page else {
                connection = None;
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let last = rows.last().and_then(|row| row.try_get::<String, _>("cursor").ok());
            for id in rows.iter().filter_map(|row| row.try_get::<Uuid, _>("id").ok()) {
                if !in_history.insert(id) {
                    self.repeated.fetch_add(1, Ordering::Relaxed);
                }
                locked(&self.seen).insert(id);
            }
            if last.is_some() {
                cursor = last;
            } else if over {
                return;
            } else {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    pub fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn has_seen(&self, id: Uuid) -> bool {
        locked(&self.seen).contains(&id)
    }
}
