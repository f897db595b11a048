//! Writing is a task of its own: a gateway that reads no further for a while, which it may, is still listened to.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::wire::{Out, Sender};

/// Frames between the driver and the system: a few, for what waits here cannot be taken back.
const WAITING: usize = 4;

/// The task; it ends with whoever holds this.
pub(super) struct Writing(JoinHandle<()>);

/// Begins to write what is put in.
pub(super) fn begin(sender: Sender) -> (mpsc::Sender<Out>, Writing) {
    let (out, queue) = mpsc::channel(WAITING);
    (out, Writing(tokio::spawn(write(sender, queue))))
}

impl Writing {
    /// Waits until everything is written, once nothing more can be put in.
    pub async fn end(&mut self) {
        let _ = (&mut self.0).await; // a task that failed has nothing more to write either
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn write(mut sender: Sender, mut queue: mpsc::Receiver<Out>) {
    while let Some(out) = queue.recv().await {
        let sent = match out {
            Out::Frame(frame) => sender.send(frame).await,
            Out::Droppable(frame) => sender.send_droppable(frame).await,
            Out::End => return sender.end().await,
        };
        if sent.is_err() {
            return; // the receiver learns why
        }
    }
}
