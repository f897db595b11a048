//! Why a session ends, and whether to come back: one table for both transports.
//!
//! 40xx: come back. 45xx: do not. The seed profile knows none of these and uses WebSocket's own
//! codes (RFC 6455, 7.4.1). 1005, 1006 and 1015 are never sent.

use super::Profile;

/// Why the gateway ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said goodbye; so do we.
    Ended,
    /// The gateway is going away; another process will be there.
    Drain,
    /// The client took nothing for too long, or fell behind what is kept.
    TooSlow,
    /// The room's log began anew.
    LogReset,
    /// Nothing was heard from the client, not even a pong.
    HeartbeatLost,
    /// The client kept ignoring its rate limit.
    RateLimitAbuse,
    /// The session's seat could not be written.
    StoreUnavailable,
    /// The token was not good.
    AuthFailed,
    /// The token was good once.
    TokenExpired,
    /// This user may not be here.
    Forbidden,
    /// No `hello` came in time.
    NoHello,
    /// What came is not the protocol.
    ProtocolError,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// The WebSocket framing itself is broken.
    BrokenFraming,
    /// The seed profile has no binary frames.
    BinaryRefused,
    /// A chat before its `join`, in the seed profile.
    WithoutName,
    /// The room was deleted.
    RoomDeleted,
    /// The room has all the members it may have.
    RoomFull,
    /// An operator ended the session.
    Kicked,
    /// Another connection took the seat.
    TakenOver,
    /// A frame over the message limit.
    MessageTooLarge,
}

/// What a client does about a close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Come back at once, or when told.
    Now,
    /// Come back after backing off.
    Later,
    /// Do not come back as you are.
    Never,
}

/// One row of the table.
struct Row {
    v1: u16,
    seed: u16,
    slug: &'static str,
    advice: Advice,
    sentence: &'static str,
}

impl CloseReason {
    #[rustfmt::skip]
    fn row(self) -> Row {
        use Advice::{Later, Never, Now};
        let row = |v1, seed, slug, advice, sentence| Row { v1, seed, slug, advice, sentence };
        match self {
            Self::Ended => row(1000, 1000, "ended", Never, "the session has ended"),
            Self::Drain => row(4000, 1012, "drain", Now, "the gateway is restarting"),
            Self::TooSlow => row(4002, 1011, "too_slow", Later, "the connection does not keep up"),
            Self::LogReset => row(4003, 1011, "log_reset", Now, "the room's log began anew"),
            Self::HeartbeatLost => row(4004, 1011, "heartbeat_lost", Now, "nothing was heard in time"),
            Self::RateLimitAbuse => row(4005, 1011, "rate_limit_abuse", Later, "too much was refused"),
            Self::StoreUnavailable => row(4007, 1011, "store_unavailable", Later, "the store cannot take the seat now"),
            Self::AuthFailed => row(4500, 1011, "auth_failed", Never, "the token was refused"),
            Self::TokenExpired => row(4501, 1011, "token_expired", Never, "the token has expired"),
            Self::Forbidden => row(4502, 1011, "forbidden", Never, "this room is not open to you"),
            Self::NoHello => row(4503, 1011, "no_hello", Never, "no hello came in time"),
            Self::ProtocolError => row(4504, 1002, "protocol_error", Never, "that is not the protocol"),
            Self::InvalidUtf8 => row(4504, 1007, "invalid_utf8", Never, "text must be UTF-8"),
            Self::BrokenFraming => row(1002, 1002, "broken_framing", Never, "the WebSocket framing is broken"),
            Self::BinaryRefused => row(4504, 1003, "binary_refused", Never, "this protocol is text only"),
            Self::WithoutName => row(4504, 1011, "without_name", Never, "Session without name"),
            Self::RoomDeleted => row(4505, 1011, "room_deleted", Never, "the room was deleted"),
            Self::RoomFull => row(4506, 1011, "room_full", Never, "the room is full"),
            Self::Kicked => row(4507, 1011, "kicked", Never, "an operator ended the session"),
            Self::TakenOver => row(4508, 1011, "taken_over", Never, "another connection took the seat"),
            Self::MessageTooLarge => row(4510, 1009, "message_too_large", Never, "the frame is over the message limit"),
        }
    }

    /// The code of the close frame in this profile.
    pub fn code(self, profile: Profile) -> u16 {
        match profile {
            Profile::V1 => self.row().v1,
            Profile::Seed => self.row().seed,
        }
    }

    /// The metric's label and v1's `reason`.
    pub fn slug(self) -> &'static str {
        self.row().slug
    }

    /// What goes into a close frame beside the code: the slug, or a sentence for the seed's people.
    pub fn text(self, profile: Profile) -> &'static str {
        match profile {
            Profile::V1 => self.row().slug,
            Profile::Seed => self.row().sentence,
        }
    }

    /// What the client should do.
    pub fn advice(self) -> Advice {
        self.row().advice
    }

    /// The reason in words.
    pub fn sentence(self) -> &'static str {
        self.row().sentence
    }

    /// Every reason there is, for tables in docs and metrics.
    #[rustfmt::skip]
    pub const ALL: [CloseReason; 21] = [
        Self::Ended, Self::Drain, Self::TooSlow, Self::LogReset, Self::HeartbeatLost,
        Self::RateLimitAbuse, Self::StoreUnavailable, Self::AuthFailed, Self::TokenExpired,
        Self::Forbidden, Self::NoHello, Self::ProtocolError, Self::InvalidUtf8,
        Self::BrokenFraming, Self::BinaryRefused, Self::WithoutName, Self::RoomDeleted,
        Self::RoomFull, Self::Kicked, Self::TakenOver, Self::MessageTooLarge,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_says_whether_to_come_back() {
        for reason in CloseReason::ALL {
            let come_back = reason.advice() != Advice::Never;
            match reason.code(Profile::V1) {
                1000 | 1002 => assert!(!come_back),
                4000..=4099 => assert!(come_back, "{reason:?}"),
                4500..=4599 => assert!(!come_back, "{reason:?}"),
                other => panic!("{reason:?} has the odd code {other}"),
            }
            assert!(
                [1000, 1002, 1003, 1007, 1009, 1011, 1012].contains(&reason.code(Profile::Seed))
            );
            assert!(reason.sentence().len() <= 123, "a close frame has no room for more");
        }
    }
}
