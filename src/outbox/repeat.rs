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
    let mut tries = 0u32;
    loop {
        let error = match statement().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        tries += 1;
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
    }
}
