//! The same seed leaves the same bytes: in the store, and with everyone who listened.

use dormouse::store::Engine;

use crate::faults::day;
use crate::seeds::for_seeds;
use crate::world::World;

fn left_by(world: &World) -> Option<Vec<u8>> {
    let engine = world.disk.engine.reopen();
    engine.hibernate(&world.disk.room, None).unwrap();
    engine.snapshot_bytes(&world.disk.room)
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    for_seeds(100, |seed, trace| {
        let (first, second) = (day(seed, trace.clone()), day(seed, trace));
        assert_eq!(left_by(&first), left_by(&second));
        assert!(first.received == second.received, "somebody received something else");
        assert_eq!(first.history, second.history);
    });
}
