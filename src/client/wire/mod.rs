//! One connection, whatever it runs over: frames out, frames in.
//!
//! - Sending and receiving are two halves, so that neither waits for the other.
//! - A half that is dropped says nothing: only [`Sender::end`] ends the seat, by code 1000.

mod discovery;
mod io;
mod open;
mod websocket;
mod webtransport;

pub(super) use open::{Route, open};

use super::error::Lost;
use super::framing::Raw;

/// What a session runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// HTTP/3.
    WebTransport,
}

/// An open connection.
pub(super) struct Wire {
    pub transport: Transport,
    pub sender: Sender,
    pub receiver: Receiver,
}

/// What is to be sent.
pub(super) enum Out {
    Frame(Raw),
    /// As a datagram, where there are some and it fits.
    Droppable(Raw),
    /// The last: close in order, with 1000.
    End,
}

/// What came.
pub(super) enum Heard {
    Frame(Raw),
    /// A sign of life below the protocol.
    Alive,
}

pub(super) enum Sender {
    WebSocket(websocket::Sender),
    WebTransport(webtransport::Sender),
}

pub(super) enum Receiver {
    WebSocket(websocket::Receiver),
    WebTransport(webtransport::Receiver),
}

impl Sender {
    pub async fn send(&mut self, frame: Raw) -> Result<(), Lost> {
        match self {
            Self::WebSocket(sender) => sender.send(frame).await,
            Self::WebTransport(sender) => sender.send(frame).await,
        }
    }

    pub async fn send_droppable(&mut self, frame: Raw) -> Result<(), Lost> {
        match self {
            Self::WebSocket(sender) => sender.send(frame).await,
            Self::WebTransport(sender) => sender.send_droppable(frame).await,
        }
    }

    /// Closes in order, which ends the seat.
    pub async fn end(self) {
        match self {
            Self::WebSocket(sender) => sender.end().await,
            Self::WebTransport(sender) => sender.end(),
        }
    }
}

impl Receiver {
    /// The next that comes. Nothing is lost when the wait for it is given up.
    pub async fn next(&mut self) -> Result<Heard, Lost> {
        match self {
            Self::WebSocket(receiver) => receiver.next().await,
            Self::WebTransport(receiver) => receiver.next().await,
        }
    }
}
