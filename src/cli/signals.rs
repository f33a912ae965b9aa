//! SIGINT and SIGTERM: the first asks, the second ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::Error;

/// What a shell tells of a process that a signal ended: 128 and the signal's number.
const BY_INTERRUPT: i32 = 130;
const BY_TERMINATE: i32 = 143;

/// A token that the first SIGINT or SIGTERM cancels; a second ends the process with 130 or 143.
pub fn shutdown() -> Result<CancellationToken, Error> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let (name, code) = tokio::select! {
                _ = interrupt.recv() => ("SIGINT", BY_INTERRUPT),
                _ = terminate.recv() => ("SIGTERM", BY_TERMINATE),
            };
            if asked.is_cancelled() {
                tracing::warn!(
                    signal = name,
                    "a second signal: ending at once; open calls are left to verification"
                );
                std::process::exit(code);
            }
            tracing::info!(signal = name, "asked to stop");
            asked.cancel();
        }
    });
    Ok(shutdown)
}

/// Cancels the token at the first Ctrl-C; a second ends the process with 130.
pub fn note_interrupts(interrupted: CancellationToken) -> Result<(), Error> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::spawn(async move {
        interrupt.recv().await;
        interrupted.cancel();
        interrupt.recv().await;
        std::process::exit(BY_INTERRUPT);
    });
    Ok(())
}

/// Ends the process at once, as a crash would, when its stdin ends: whoever holds the other end has gone, however it went.
/// If that one had frozen us, we are woken to see it.
pub fn end_with_stdin() {
    // The kernel wakes what stands still in an orphaned process group too, but looks just once: a process that was still
    // about to stop when its parent died would stand for ever.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT)) {
        tracing::warn!(%error, "cannot ask to be woken when the process that started this one dies");
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(1);
    });
}

fn listen(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::failed(format!("signals cannot be listened to: {error}")))
}
