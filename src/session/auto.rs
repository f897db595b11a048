//! Auto-responses: text frames that are answered as they come, below the room.
//!
//! An operator names a request and its answer, say `ping` and `pong`. A frame that is the
//! request, byte for byte, is answered by the session before anybody decodes it: no room wakes,
//! none stays awake for it, and no rule sees it. It works alike for both profiles and from the
//! first frame on, also before `hello` or `join`, whose deadlines it does not lengthen.
//!
//! Like a `ping` it is a sign of life, and has no rate of its own: its answer is owed to the
//! client, and a client that is owed `outbox_bytes` is not read from.

use bytes::Bytes;

/// The most pairs of one kind of rooms: each is compared with every text frame.
pub const PAIRS: usize = 8;

/// The most bytes of either side.
pub const SIDE_BYTES: usize = 2_048;

/// Requests and their answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutoResponses(Vec<(Bytes, String)>);

/// Why pairs of texts are no auto-responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there may be 8 pairs, each text of 1 to 2048 bytes, and no two with the same request")]
pub struct BadPairs;

impl AutoResponses {
    /// These requests, each with its answer.
    pub fn new(pairs: Vec<(String, String)>) -> Result<Self, BadPairs> {
        let fits = |text: &str| (1..=SIDE_BYTES).contains(&text.len());
        let is_good = pairs.iter().enumerate().all(|(at, (request, response))| {
            let is_first = pairs[..at].iter().all(|(before, _)| before != request);
            fits(request) && fits(response) && is_first
        });
        if !is_good || pairs.len() > PAIRS {
            return Err(BadPairs);
        }
        Ok(Self(pairs.into_iter().map(|(request, response)| (request.into(), response)).collect()))
    }

    /// The answer to a text frame, if it is one of the requests.
    pub fn to(&self, body: &[u8]) -> Option<&str> {
        let pair = self.0.iter().find(|(request, _)| request == body);
        pair.map(|(_, response)| response.as_str())
    }

    /// The bytes of the longest request.
    pub fn longest_request(&self) -> usize {
        self.0.iter().map(|(request, _)| request.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Result<AutoResponses, BadPairs> {
        let owned = |(request, response): &(&str, &str)| ((*request).into(), (*response).into());
        AutoResponses::new(pairs.iter().map(owned).collect())
    }

    #[test]
    fn only_the_very_request_is_answered() {
        let responses = pairs(&[("ping", "pong"), ("{\"a\":1}", "{}")]).unwrap();
        assert_eq!(responses.to(b"ping"), Some("pong"));
        assert_eq!(responses.to(b"{\"a\":1}"), Some("{}"));
        for other in ["", "Ping", "ping ", "pin", "{\"a\": 1}", "pong"] {
            assert_eq!(responses.to(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn there_are_only_so_many_and_only_so_long_ones() {
        let numbered = |count: usize| {
            AutoResponses::new((0..count).map(|n| (n.to_string(), "x".into())).collect())
        };
        assert!(numbered(PAIRS).is_ok());
        assert_eq!(numbered(PAIRS + 1), Err(BadPairs));
        let long = "x".repeat(SIDE_BYTES);
        assert_eq!(pairs(&[(&long, &long)]).unwrap().longest_request(), SIDE_BYTES);
        let longer = "x".repeat(SIDE_BYTES + 1);
        for bad in [(&longer[..], "x"), ("x", &longer), ("", "x"), ("x", "")] {
            assert_eq!(pairs(&[bad]), Err(BadPairs));
        }
        assert_eq!(pairs(&[("a", "x"), ("a", "y")]), Err(BadPairs), "which would it be?");
    }
}
