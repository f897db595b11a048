//! The transports there are.

use crate::telemetry::{WEBSOCKET, WEBTRANSPORT};

/// What carries a session.
///
/// What the door decides, it decides for each of them: the tests of its rules run over
/// [`all`](Self::all) and match every transport by name, so that another one has a test of each
/// rule before they compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A WebSocket over TCP.
    WebSocket,
    /// A WebTransport session over QUIC.
    WebTransport,
}

impl Transport {
    /// Every transport.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::WebSocket), |transport| transport.next())
    }

    /// The transport that follows in the list of all: a match, so that none is left out of it.
    fn next(self) -> Option<Self> {
        match self {
            Self::WebSocket => Some(Self::WebTransport),
            Self::WebTransport => None,
        }
    }

    /// Its name in metrics and in the log.
    pub fn label(self) -> &'static str {
        match self {
            Self::WebSocket => WEBSOCKET,
            Self::WebTransport => WEBTRANSPORT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn every_transport_is_among_the_metrics_from_the_start() {
        let page = Metrics::default().exposition();
        for transport in Transport::all() {
            let label = transport.label();
            for name in ["sessions", "frames_sent_total", "frames_received_total"] {
                let line = format!("dormouse_{name}{{transport=\"{label}\"}} 0");
                assert!(page.contains(&line), "{line}");
            }
        }
    }
}
