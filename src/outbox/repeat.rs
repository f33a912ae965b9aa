//! Whole statements, again.

use std::future::Future;
use std::time::Duration;

/// Repeats a whole statement that lost against another one: serialization failures and deadlocks, and once for a cached
/// plan that a migration made stale. What lost was rolled back as a whole, and did nothing.
pub async fn repeating<T, F, Fut>(mut statement: F) -> Result<T, sqlx::Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, sqlx::Error>>,
{
    let mut tries = Tries::default();
    loop {
        match statement().await {
            Ok(value) => return Ok(value),
            Err(error) => tries.again(error).await?,
        }
    }
}

/// How often a statement was tried.
#[derive(Debug, Default)]
pub struct Tries(u32);

impl Tries {
    /// Returns when the statement is to be tried again; an error that is no reason for it is returned.
    pub async fn again(&mut self, error: sqlx::Error) -> Result<(), sqlx::Error> {
        self.0 += 1;
        let tries = self.0;
        let code = error
            .as_database_error()
            .and_then(|database| database.code())
            .unwrap_or_default();
        let again = match code.as_ref() {
            "40001" | "40P01" => tries <= 8,
            "0A000" | "26000" => tries <= 2,
            _ => false,
        };
        if !again {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(u64::from(5 * tries))).await;
        Ok(())
    }
}
