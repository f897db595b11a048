//! Why there are no figures.

use std::io;
use std::net::SocketAddr;

/// What ended a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A load is not for other people's servers.
    #[error("{0} is no loopback address, and a load is sent to nobody else")]
    NotLoopback(SocketAddr),
    /// What was asked for has no meaning.
    #[error("{0}")]
    Nonsense(&'static str),
    /// There is no server.
    #[error("cannot start {command:?}")]
    Start {
        /// What was to be started.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is one, but it cannot be reached.
    #[error("the server did not open: {0}")]
    NotOpen(String),
    /// A member could not connect.
    #[error("member {member} cannot connect")]
    Connect {
        /// Which one.
        member: usize,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A member's connection ended.
    #[error("the server sent a member away: {0}")]
    SentAway(String),
    /// Something was waited for in vain.
    #[error("waited in vain for {0}")]
    Patience(String),
    /// The generator's own machinery.
    #[error("the generator's own machinery failed")]
    Machinery(#[from] io::Error),
    /// It was interrupted.
    #[error("interrupted")]
    Interrupted,
}
