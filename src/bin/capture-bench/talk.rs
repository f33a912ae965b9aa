//! What a process says on stderr: read, as a log collector would, and forgotten but for its last lines.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

const KEPT: usize = 5;

/// The last lines.
#[derive(Debug, Clone, Default)]
pub struct Talk(Arc<Mutex<VecDeque<String>>>);

impl Talk {
    pub fn hear(stderr: impl AsyncRead + Unpin + Send + 'static) -> Talk {
        let talk = Talk::default();
        let heard = talk.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::with_capacity(64 * 1024, stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                // What is said of each capture tells nothing about why a process ended.
                if line.windows(10).any(|part| part == b"\"captured\"") {
                    continue;
                }
                let mut kept = heard.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == KEPT {
                    kept.pop_front();
                }
                kept.push_back(String::from_utf8_lossy(&line).into_owned());
            }
        });
        talk
    }

    pub fn last(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(String::as_str).collect::<Vec<_>>().join(" | ")
    }
}
