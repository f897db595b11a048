//! The members of a large room, served in rounds.
//!
//! Writing to a thousand members takes milliseconds, and on the way to them wait the very messages
//! that could leave with the same writes. A round therefore goes past the members a few at a
//! time and lets everything else that is ready run in between: publishers are read, commits
//! come back, the ring moves on, and whoever is visited later takes more with one write. A round
//! that is overtaken goes on, like an elevator, until it has been everywhere since the ring last
//! moved.
//!
//! - A small room has no rounds: its members are served at once.
//! - A crowd is parted so that the cores can share it. One part is served by one round at a time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::outbox::{Outbox, Shared};
use crate::room::{Connection, Sorted};

/// Members that are served in one go: some 200 µs of writing.
pub(super) const AT_ONCE: usize = 64;

/// Below so many members a crowd is a small room again.
const FEW: usize = AT_ONCE / 2;

/// Members between two pauses of a round.
const BETWEEN_PAUSES: usize = 32;

/// Members of one part.
const PART: usize = 512;

/// The members of a room, if they are many.
#[derive(Default)]
pub(super) struct Crowd {
    /// Empty in a small room.
    parts: Vec<Arc<Part>>,
}

/// Some of them.
#[derive(Default)]
struct Part {
    members: Mutex<BTreeMap<Connection, Arc<Outbox>>>,
    /// How often the ring has moved, as far as this part was told.
    moves: AtomicU64,
    /// Whether a round is on its way.
    is_served: AtomicBool,
}

/// A way past the members of one part.
pub struct Round(Arc<Part>);

impl Crowd {
    /// Somebody comes.
    pub(super) fn enter(&mut self, connection: Connection, outbox: &Arc<Outbox>) {
        if !self.parts.is_empty() {
            self.part_with_room().members().insert(connection, outbox.clone());
        }
    }

    /// Somebody is gone.
    pub(super) fn leave(&mut self, connection: Connection) {
        self.parts.retain(|part| {
            let mut members = part.members();
            members.remove(&connection).is_none() || !members.is_empty()
        });
    }

    /// Whether its members are served in rounds.
    pub(super) fn is_there(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The ring has moved: serves a few at once, and begins rounds past many.
    pub(super) fn begin_rounds(
        &mut self,
        members: &Sorted<Connection, Arc<Outbox>>,
        shared: &mut Shared,
    ) -> Vec<Round> {
        self.part(members);
        if self.parts.is_empty() {
            members.values().for_each(|outbox| outbox.serve(shared));
            return Vec::new();
        }
        self.parts.iter().filter_map(Part::begin_round).collect()
    }

    /// Lets go of what only a crowd needs. It is parted again if it hears anything while it sleeps.
    pub(super) fn rest(&mut self) {
        self.parts = Vec::new();
    }

    fn part(&mut self, members: &Sorted<Connection, Arc<Outbox>>) {
        if members.len() < FEW {
            self.parts = Vec::new();
        } else if members.len() > AT_ONCE && self.parts.is_empty() {
            for (connection, outbox) in members.iter() {
                self.part_with_room().members().insert(*connection, outbox.clone());
            }
        }
    }

    fn part_with_room(&mut self) -> &Part {
        let has_room = |part: &Arc<Part>| part.members().len() < PART;
        // The last one has, while a crowd comes in.
        let found = self.parts.iter().rposition(has_room);
        let index = found.unwrap_or_else(|| {
            self.parts.push(Arc::default());
            self.parts.len() - 1
        });
        &self.parts[index]
    }
}

impl Part {
    /// Notes that the ring has moved, and begins a round unless one is on its way.
    fn begin_round(self: &Arc<Self>) -> Option<Round> {
        self.moves.fetch_add(1, Ordering::SeqCst);
        let begins = !self.is_served.swap(true, Ordering::SeqCst);
        begins.then(|| Round(self.clone()))
    }

    /// Ends the round; says whether that was right: the ring may have moved once more.
    fn end_round(&self, seen: u64) -> bool {
        self.is_served.store(false, Ordering::SeqCst);
        self.moves() == seen || self.is_served.swap(true, Ordering::SeqCst)
    }

    fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Connection, Arc<Outbox>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next members behind `after`, into `few`.
    fn next_few(&self, after: Option<Connection>, few: &mut Vec<(Connection, Arc<Outbox>)>) {
        few.clear();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let members = self.members();
        let behind = members.range((from, Bound::Unbounded)).take(BETWEEN_PAUSES);
        few.extend(behind.map(|(connection, outbox)| (*connection, outbox.clone())));
    }
}

impl Round {
    /// Serves all members until each has been visited since the ring last moved.
    pub async fn run(self) {
        let part = &self.0;
        let (mut shared, mut few) = (Shared::default(), Vec::with_capacity(BETWEEN_PAUSES));
        let mut seen = part.moves();
        // Who was visited last, where that was when the ring last moved, and whether the end was
        // passed since.
        let (mut last, mut begun, mut has_turned) = (None, None, false);
        loop {
            let moves = part.moves();
            if moves != seen {
                (seen, begun, has_turned) = (moves, last, false);
            } else if has_turned && last >= begun {
                match part.end_round(seen) {
                    true => return,
                    false => continue,
                }
            }
            part.next_few(last, &mut few);
            let Some((newest, _)) = few.last() else {
                if has_turned {
                    begun = None; // the end again: whoever stood there is gone
                }
                (last, has_turned) = (None, true);
                continue;
            };
            last = Some(*newest);
            shared.renew();
            few.drain(..).for_each(|(_, outbox)| outbox.serve(&mut shared));
            // Last in line: first comes everything that is ready, and what has arrived meanwhile.
            tokio::task::yield_now().await;
        }
    }
}

/// A round that fails must not be the last of its part.
impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.is_served.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::task::yield_now;

    use super::*;
    use crate::outbox::{Policy, Reader};
    use crate::protocol::Framing;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// The ring moved between the last look of a round and its end: the newest message reached that
    /// part of the room with the next one only.
    #[test]
    fn a_round_that_was_overtaken_at_its_very_end_goes_on() {
        let part = Arc::new(Part::default());
        let _round = part.begin_round().expect("none is on its way");
        let seen = part.moves();
        assert!(part.begin_round().is_none(), "one is on its way, and sees the move");
        assert!(!part.end_round(seen), "it had not seen it");
        assert!(part.is_served.load(Ordering::SeqCst), "it goes on");
        assert!(part.end_round(part.moves()));
        assert!(!part.is_served.load(Ordering::SeqCst));
    }

    /// A room whose members only note that they were told.
    #[derive(Default)]
    struct Room {
        crowd: Crowd,
        members: Sorted<Connection, Arc<Outbox>>,
        told: HashMap<Connection, Arc<AtomicUsize>>,
    }

    impl Room {
        fn of(members: u64) -> Self {
            let mut room = Self::default();
            (0..members).for_each(|number| room.enter(number));
            room
        }

        fn enter(&mut self, number: u64) {
            let policy = Policy {
                ring_bytes: 100,
                ring_age: Duration::from_secs(1),
                outbox_bytes: 100,
                page_bytes: 100,
                presence_bytes: 100,
            };
            let outbox = Outbox::new(Framing::V1WebSocket, &policy);
            let (connection, told) = (Connection(number), Arc::new(AtomicUsize::new(0)));
            self.crowd.enter(connection, &outbox);
            self.members.insert(connection, outbox.clone());
            self.told.insert(connection, told.clone());
            tokio::spawn(async move {
                let mut reader = Reader::new(outbox);
                loop {
                    reader.changed().await;
                    told.fetch_add(1, Ordering::Relaxed);
                }
            });
        }

        fn leave(&mut self, number: u64) {
            self.crowd.leave(Connection(number));
            self.members.remove(&Connection(number));
            self.told.remove(&Connection(number));
        }

        /// The ring moves.
        fn moves(&mut self) -> Vec<tokio::task::JoinHandle<()>> {
            let rounds = self.crowd.begin_rounds(&self.members, &mut Shared::default());
            rounds.into_iter().map(|round| tokio::spawn(round.run())).collect()
        }

        async fn all_are_told(&self) {
            let all = async {
                while self.told.values().any(|told| told.load(Ordering::Relaxed) == 0) {
                    yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, all).await.expect("nobody is missed");
        }

        fn forget(&self) {
            self.told.values().for_each(|told| told.store(0, Ordering::Relaxed));
        }
    }

    async fn end(rounds: Vec<tokio::task::JoinHandle<()>>) {
        for round in rounds {
            tokio::time::timeout(DEADLINE, round).await.expect("a round ends").unwrap();
        }
    }

    #[tokio::test]
    async fn a_few_are_served_at_once_and_a_crowd_in_rounds() {
        let mut room = Room::of(AT_ONCE as u64);
        assert!(room.moves().is_empty());
        room.all_are_told().await;

        room.forget();
        room.enter(AT_ONCE as u64);
        let rounds = room.moves();
        assert_eq!(rounds.len(), 1);
        assert!(room.moves().is_empty(), "one round at a time");
        end(rounds).await;
        room.all_are_told().await;

        (FEW as u64..=AT_ONCE as u64).for_each(|number| room.leave(number));
        assert_eq!(room.moves().len(), 1, "still a crowd");
        room.leave(0);
        assert!(room.moves().is_empty(), "a small room again");
    }

    #[tokio::test]
    async fn a_large_crowd_is_parted() {
        let mut room = Room::of(2 * PART as u64 + 1);
        let rounds = room.moves();
        assert_eq!(rounds.len(), 3);
        end(rounds).await;
        room.all_are_told().await;
        room.crowd.rest();
        assert!(room.crowd.parts.is_empty());
    }

    #[tokio::test]
    async fn whoever_the_ring_overtakes_is_visited_again() {
        const MEMBERS: usize = 10 * BETWEEN_PAUSES;
        for pauses in 0..=11 {
            let mut room = Room::of(MEMBERS as u64);
            let rounds = room.moves();
            for _ in 0..pauses {
                yield_now().await;
            }
            room.forget();
            let more = room.moves();
            end(rounds).await;
            end(more).await;
            room.all_are_told().await;
        }
    }

    #[tokio::test]
    async fn a_round_is_once_round_and_no_more() {
        const MEMBERS: usize = 10 * BETWEEN_PAUSES;
        let mut room = Room::of(MEMBERS as u64);
        let rounds = room.moves();
        for _ in 0..5 {
            yield_now().await;
        }
        room.moves();
        end(rounds).await;
        room.all_are_told().await;
        let told: usize = room.told.values().map(|told| told.load(Ordering::Relaxed)).sum();
        assert!((MEMBERS..=2 * MEMBERS).contains(&told), "{told} visits for two moves");
    }

    /// Everybody leaves behind a round that was overtaken, or just the one where that was.
    #[tokio::test]
    async fn a_round_ends_though_those_it_began_with_are_gone() {
        const MEMBERS: u64 = 10 * BETWEEN_PAUSES as u64;
        for pauses in 0..=12 {
            for gone in [0..MEMBERS, MEMBERS - 1..MEMBERS, MEMBERS / 2..MEMBERS] {
                let mut room = Room::of(MEMBERS);
                let rounds = room.moves();
                for _ in 0..pauses {
                    yield_now().await;
                }
                let more = room.moves();
                yield_now().await;
                gone.for_each(|number| room.leave(number));
                end(rounds).await;
                end(more).await;
                room.all_are_told().await;
            }
        }
    }

    #[tokio::test]
    async fn parts_that_nobody_is_left_in_are_gone() {
        let mut room = Room::of(3 * PART as u64);
        end(room.moves()).await;
        (PART as u64..3 * PART as u64).for_each(|number| room.leave(number));
        assert_eq!(room.crowd.parts.len(), 1);
        (PART as u64..2 * PART as u64).for_each(|number| room.enter(number));
        assert_eq!(room.moves().len(), 2);
    }

    #[tokio::test]
    async fn who_comes_and_goes_during_a_round_makes_nobody_miss_it() {
        const MEMBERS: u64 = 10 * BETWEEN_PAUSES as u64;
        let mut room = Room::of(MEMBERS);
        let rounds = room.moves();
        for number in 0..MEMBERS / 2 {
            room.leave(2 * number);
            room.enter(MEMBERS + number);
            yield_now().await;
        }
        end(rounds).await;
        room.told.retain(|connection, _| connection.0 < MEMBERS);
        room.all_are_told().await;
    }
}
