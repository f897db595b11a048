//! What goes into the machine and what comes out.

use bytes::Bytes;

use crate::protocol::v1::{self, PageFrom, PresenceWish, RoomState, ServerFrame, Since, To};
use crate::protocol::{Author, BodyKind, Claim, CloseReason, Epoch, Payload, Position, Profile};
use crate::protocol::{KeyHash, Sid, Timestamp, seed};
use crate::room::{Connection, Ephemeral, Side};
use crate::store::{Error, Message, Opened, Record, Slice};

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For what is told and stored.
    pub wall: Timestamp,
    /// For deadlines: milliseconds on a clock that never runs backwards.
    pub ms: u64,
}

/// A message to the keeper from a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mail {
    /// A client wants a seat.
    Join(Box<Join>),
    /// A client says something.
    Publish {
        /// Who.
        connection: Connection,
        /// The request's number.
        id: Option<u64>,
        /// The idempotency key.
        key: Option<String>,
        /// To whom, if not to everybody.
        to: Option<To>,
        /// What.
        payload: Payload,
    },
    /// A client shows something that may be dropped.
    Ephemeral {
        /// Who.
        connection: Connection,
        /// Of one author and key only the newest counts.
        key: String,
        /// What.
        payload: Payload,
    },
    /// A client wants a page of the log.
    History {
        /// Who.
        connection: Connection,
        /// Which.
        history: v1::History,
        /// The stream it asked on, if not the main one.
        side: Option<Side>,
    },
    /// A client wants a page of members.
    Members {
        /// Who.
        connection: Connection,
        /// Which.
        members: v1::Members,
    },
    /// A client lost changes of who is here.
    AskForMembers {
        /// Who.
        connection: Connection,
    },
    /// A client changes its seat.
    Set {
        /// Who.
        connection: Connection,
        /// How.
        set: v1::Set,
    },
    /// A seed client takes another name.
    Rename {
        /// Who.
        connection: Connection,
        /// The new name.
        name: String,
    },
    /// A connection has ended.
    Gone {
        /// Which.
        connection: Connection,
        /// How.
        how: Gone,
    },
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// With a goodbye: its seat ends now.
    Ended,
    /// Without one: its seat's windows begin.
    Lost,
    /// As lost, and the reader found that the log begins only here.
    BehindRetention {
        /// The oldest message there is.
        oldest: u64,
    },
}

/// How a client wants to be seated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The connection.
    pub connection: Connection,
    /// What it speaks.
    pub profile: Profile,
    /// The name to show; absent on a kept seat, it stays.
    pub name: Option<String>,
    /// Labels, likewise.
    pub tags: Option<Vec<String>>,
    /// JSON text, likewise.
    pub attachment: Option<String>,
    /// What its session token says, already verified.
    pub claim: Option<Claim>,
    /// Where its copy of the log ends.
    pub since: Option<Since>,
    /// How many messages it wants when it has none.
    pub history: u64,
    /// Whether it wants `room` frames.
    pub watch: bool,
    /// How much it wants to know about who is here.
    pub presence: PresenceWish,
    /// A seed client's position: the newest message when its socket was accepted.
    pub accepted: Option<Position>,
    /// Where the log began when the session looked, in its epoch: retention trims without the
    /// keeper, and a client is to be told before it is promised anything.
    pub oldest: Option<(Epoch, u64)>,
    /// The dice were thrown outside: an id for a new seat.
    pub fresh_sid: Sid,
    /// And an author.
    pub fresh_author: Author,
}

impl Join {
    /// A join that asks for nothing: no name, no history, nothing taken back.
    pub fn new(
        connection: Connection,
        profile: Profile,
        fresh_sid: Sid,
        fresh_author: Author,
    ) -> Self {
        Self {
            connection,
            profile,
            name: None,
            tags: None,
            attachment: None,
            claim: None,
            since: None,
            history: 0,
            watch: false,
            presence: PresenceWish::Auto,
            accepted: None,
            oldest: None,
            fresh_sid,
            fresh_author,
        }
    }
}

/// What happens to a keeper.
#[derive(Debug, Clone)]
pub enum Input {
    /// A session wants something.
    Mail(Mail),
    /// The store answers a question.
    Told {
        /// Which.
        asked: u64,
        /// The answer.
        told: Told,
        /// How long it took.
        took_us: u64,
    },
    /// The answer to [`Output::Append`].
    Appended(Result<Epoch, Error>),
    /// The answer to [`Output::Tired`]: the room may fall asleep now.
    Turn,
    /// The answer to [`Output::Hibernate`].
    Hibernated(Result<(), Error>),
    /// An operator wants something.
    Operate(Operation, Ticket),
    /// More rooms are awake than may be, and this one has been idle the longest.
    Doze,
    /// The deadline has come.
    Tick,
}

/// What the store knows.
#[derive(Debug, Clone)]
pub enum Told {
    /// The answer to [`Output::Open`].
    Opened(Result<Opened, Error>),
    /// The answer to [`Output::ReadKeys`].
    Keys(Result<Vec<(KeyHash, u64)>, Error>),
    /// The answer to [`Output::Read`].
    Messages(Result<Slice, Error>),
}

/// What operators can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To see the room.
    Inspect,
    /// To have it asleep.
    Hibernate,
    /// To have it awake.
    Wake,
    /// To have no such room.
    Delete,
    /// The same, if nobody uses it: the clock says that it was idle for too long.
    DeleteIdle,
    /// The clock says that its alarm is due.
    Ring,
    /// To have done with what it was given before: its mail is dealt with, and what that wrote is on
    /// disk. The gateway is shutting down.
    Finish,
}

/// Which operator waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the task does, in exactly this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Question of this number: what is there of the room?
    Open(u64),
    /// Question of this number: which keys does it remember?
    ReadKeys(u64),
    /// Question of this number: the messages from this one on.
    Read(u64, u64),
    /// Put records on disk.
    Append(Vec<Record>),
    /// The room would fall asleep: say when it is its turn.
    Tired,
    /// Its turn has come, and it is needed again.
    Pass,
    /// Move everything to the room's rows, with the rules' state. If it was the room's turn, that
    /// ends with this.
    Hibernate(Bytes),
    /// The room is known: its newest message is this one.
    Known {
        /// The newest message.
        newest: u64,
    },
    /// Everybody hears these.
    Broadcast(Vec<Message>),
    /// The room is awake.
    Woke {
        /// What needed it.
        cause: &'static str,
        /// How long it took to wake.
        took_us: u64,
    },
    /// The room is out of memory; so can the ring be.
    Slept,
    /// The room was told to doze and is needed after all.
    Stayed,
    /// The room was deleted: who joins from now on is in another.
    Deleted,
    /// A connection has its seat and reads from `start` on.
    Seated {
        /// Which.
        connection: Connection,
        /// The log's epoch.
        epoch: Epoch,
        /// The first message it is sent.
        start: u64,
        /// Whether it may miss what is no longer kept.
        may_skip: bool,
        /// Its seat.
        sid: Sid,
        /// How much it is told about who is here; nothing in the seed profile.
        presence: Option<PresenceWish>,
        /// The version of that which it knows.
        presence_version: u64,
    },
    /// A frame to one v1 client.
    Send(Connection, ServerFrame),
    /// A frame to one v1 client once it was sent everything up to `after`.
    SendAfter(Connection, u64, ServerFrame),
    /// A frame to one client by the stream on which it asked.
    SendAside(Connection, Side, ServerFrame),
    /// A page of the log, read from the store.
    Page {
        /// For whom.
        connection: Connection,
        /// The stream it asked on, if not the main one.
        side: Option<Side>,
        /// The request's number.
        id: Option<u64>,
        /// Where the page lies.
        from: PageFrom,
        /// How many messages at most.
        limit: usize,
        /// The newest message that was heard: the page ends there.
        newest: u64,
    },
    /// A direct message to some connections, once they were sent everything up to `after`.
    Direct {
        /// To whom.
        to: Vec<Connection>,
        /// The message they come after.
        after: u64,
        /// What `body` holds.
        kind: BodyKind,
        /// The frame's body.
        body: Bytes,
        /// Who wants to know how many it reached.
        answer: Option<(Connection, Option<u64>)>,
    },
    /// Everybody but its author sees this, if there is time.
    Ephemeral(Ephemeral),
    /// A change of who is here, in its forms.
    Presence {
        /// Counts on by one.
        version: u64,
        /// For whoever wants everybody, as JSON.
        full: String,
        /// For whoever wants a number.
        count: String,
        /// For whoever leaves it to the size of the room.
        auto: String,
    },
    /// One client learns the whole of who is here.
    Members {
        /// Who.
        connection: Connection,
        /// As of this version.
        version: u64,
        /// The frame.
        frame: ServerFrame,
    },
    /// A line to seed clients, likewise. A later one of its kind makes it worthless.
    SeedLine {
        /// To whom.
        to: Vec<Connection>,
        /// The message they come after.
        after: u64,
        /// The line.
        line: seed::ServerFrame,
    },
    /// End a connection.
    Close {
        /// Which.
        connection: Connection,
        /// Why.
        reason: CloseReason,
        /// When to come back, in ms.
        retry_after: Option<u64>,
    },
    /// A connection has left, its outbox can be forgotten.
    Forget(Connection),
    /// Tell an operator.
    Answer(Ticket, Result<Inspection, Unavailable>),
    /// Nobody needs this keeper any more.
    Retire,
}

/// A room as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Inspection {
    /// Its name.
    pub room: String,
    /// `awake`, `asleep`, `waking`, `cold` (on disk, nobody seated), `degraded` or `deleted`.
    pub state: &'static str,
    /// Seats, connected or not.
    pub seats: usize,
    /// Bytes on disk, as of the last time it was opened.
    pub bytes: u64,
    /// The newest position.
    pub head: Head,
    /// When its rules want it woken, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm: Option<AlarmSeen>,
    /// The last time it woke.
    pub last_wake: Option<LastWake>,
    /// What keeps it awake.
    pub why_awake: Option<WhyAwake>,
}

/// Who is in a room, as an operator sees it: a page of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Roster {
    /// Ordered by `sid`.
    pub members: Vec<RosterMember>,
    /// How many there are in all.
    pub count: usize,
    /// Whether there are more behind the last of these.
    pub more: bool,
}

/// A member as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct RosterMember {
    /// As members see it.
    #[serde(flatten)]
    pub member: v1::Member,
    /// Its connection, unless it is away.
    #[serde(skip)]
    pub connection: Option<Connection>,
    /// When its session last answered something by itself.
    pub auto_responded: Option<Timestamp>,
}

/// An alarm as the API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct AlarmSeen {
    /// When it rings.
    pub due: Timestamp,
    /// How often it was tried in vain; it is tried again.
    pub failures: u32,
}

/// A position as the API tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Head {
    /// The log's epoch.
    pub epoch: String,
    /// The newest message.
    pub seq: u64,
}

/// How a room woke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct LastWake {
    /// What needed it.
    pub cause: &'static str,
    /// When it was awake.
    pub time: Timestamp,
    /// How long it took.
    pub took_us: u64,
}

/// What keeps a room awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WhyAwake {
    /// The last event that needed the room, or `store` while records are on their way to disk.
    pub holder: &'static str,
    /// Since when.
    pub since: Timestamp,
    /// When it sleeps if nothing happens.
    pub sleeps_in_ms: u64,
}

/// Why an operator cannot have what it wants now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the room is unavailable: {reason}")]
pub struct Unavailable {
    /// When to ask again.
    pub retry_after_ms: u64,
    /// Why.
    pub reason: String,
}

impl RoomState {
    pub(super) fn frame(self) -> ServerFrame {
        ServerFrame::Room { state: self }
    }
}
