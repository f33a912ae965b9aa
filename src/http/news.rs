//! Who waits for an event waits here, not on a database connection: one question at a time asks for all of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::outbox::Outbox;

/// How often the feed's end is asked for while anybody waits.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// How many may wait at once; others are answered at once.
const MOST_WAITING: usize = 256;

/// Tells when the feed has grown.
#[derive(Debug)]
pub struct News {
    end: watch::Sender<String>,
    waiting: AtomicUsize,
    somebody_waits: Notify,
}

/// Somebody who waits; dropping it is going away.
#[derive(Debug)]
pub struct Waiting<'a> {
    news: &'a News,
    end: watch::Receiver<String>,
}

impl News {
    /// Nobody waits yet.
    pub fn new() -> News {
        News {
            end: watch::Sender::new(String::new()),
            waiting: AtomicUsize::new(0),
            somebody_waits: Notify::new(),
        }
    }

    /// Asks for the feed's end while anybody waits. Runs for ever.
    pub async fn watch(&self, outbox: &Outbox) {
        loop {
            // Made before the count is looked at, so that who comes in between is not missed.
            let comes = self.somebody_waits.notified();
            if self.waiting.load(Ordering::SeqCst) == 0 {
                comes.await;
            }
            // Who waits through an outage looks for itself when its time is over.
            if let Ok(end) = outbox.events_end().await {
                self.end.send_if_modified(|known| {
                    let grown = *known != end;
                    *known = end;
                    grown
                });
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Begins to wait: what comes from now on is noticed. `None`: too many wait.
    pub fn wait(&self) -> Option<Waiting<'_>> {
        if self.waiting.fetch_add(1, Ordering::SeqCst) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        self.somebody_waits.notify_one();
        Some(Waiting {
            news: self,
            end: self.end.subscribe(),
        })
    }
}

impl Waiting<'_> {
    /// Until the feed has grown.
    pub async fn grown(&mut self) {
        if self.end.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.news.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
