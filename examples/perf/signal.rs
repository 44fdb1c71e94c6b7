//! The end by hand: SIGTERM or SIGINT, told to whatever executor the measurement runs on.

use std::io;

use futures::channel::oneshot;
use tokio::signal::unix::{SignalKind, signal};

/// Resolves when the process is asked to end.
pub(crate) fn asked_to_end() -> io::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: our runtime has no tokio around it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("perf-signal".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        // The measurement may have ended by itself.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}
