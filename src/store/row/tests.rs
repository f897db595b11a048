//! The formats: what was written once must be read for ever, and nothing else may be believed.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::suite::{key, keyed, message, room, seat};
use super::super::{BodyKind, Identity, Message, Record, SeatRow};
use super::*;
use crate::clock::{Jump, Past};
use crate::protocol::{Author, KeyHash, Sid, Timestamp};

/// Later than any message here.
const LATE: Timestamp = Timestamp(u64::MAX);

fn a_message() -> Message {
    Message {
        seq: 300,
        time: Timestamp(1_760_000_000_000),
        key: Some(KeyHash(*b"sixteen byte key")),
        kind: BodyKind::Binary,
        body: Bytes::from_static(b"\x02{}!"),
    }
}

fn a_seat() -> SeatRow {
    SeatRow {
        sid: Sid(7),
        author: Author(8),
        user: Some("u1".into()),
        name: "ada".into(),
        tags: vec!["mod".into()],
        attachment: None,
        since: Timestamp(9),
        left: true,
    }
}

fn a_row() -> RoomRow {
    RoomRow {
        deletion: 1,
        newest: 300,
        newest_time: Timestamp(4),
        oldest: 2,
        moved: 5,
        open: 6,
        chunk_bytes: 7,
        keys: 8,
        rules: Bytes::from_static(b"rules"),
    }
}

/// Version 1 of every value, as bytes. These lines never change; a new version adds lines.
#[test]
fn what_version_1_wrote_is_still_written_and_read() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();

    let records = [
        Record::Message(a_message()),
        Record::Seat(a_seat()),
        Record::SeatLeft(Sid(7)),
        Record::SeatEnded(Sid(7)),
    ];
    let entry = encode_entry(&room("lobby"), 3, &records);
    assert_eq!(hex(&entry), ENTRY);
    let decoded = Entry { room: room("lobby"), deletion: 3, records: records.into() };
    assert_eq!(Entry::decode(&entry), Ok(decoded));

    assert_eq!(hex(&encode_seat(&a_seat())), SEAT);
    assert_eq!(decode_seat(&encode_seat(&a_seat())), Ok(a_seat()));

    assert_eq!(hex(&a_row().encode()), ROOM);
    assert_eq!(RoomRow::decode(&a_row().encode()), Ok(a_row()));

    let mut open = OpenChunk::new(300);
    assert!(open.push(&a_message(), LATE));
    // zstd may pack the same bytes differently one day; what it packed stays readable.
    let chunk = unhex(CHUNK);
    let chunk = Chunk::decode(&chunk).unwrap();
    assert_eq!((chunk.deletion, chunk.newest_time), (3, Timestamp(1_760_000_000_000)));
    assert_eq!(chunk.messages(300), Ok(vec![a_message()]));
    let keys = open.encode_keys(3).unwrap();
    assert_eq!(hex(&keys), KEYS);
    assert_eq!(Keys::decode(&keys, 300, 3), Ok(vec![(KeyHash(*b"sixteen byte key"), 300)]));
    assert_eq!(Keys::decode(&keys, 300, 4), Ok(vec![]), "keys of another epoch are not read");
    let resumed = OpenChunk::resume(300, 301, &chunk, open.keys.clone());
    assert_eq!(resumed, Ok(open));

    let identity = Identity { store: 258, secret: [1; 32] };
    assert_eq!(hex(&IdentityRow::encode(&identity)), IDENTITY);
    let decoded = IdentityRow::decode(&unhex(IDENTITY)).unwrap();
    assert_eq!((decoded.store, decoded.secret), (258, [1; 32]));
    let marks = Marks { store: 258, next: 3, deletion: 2 };
    assert_eq!(hex(&marks.encode()), MARKS);
    assert_eq!(Marks::decode(&unhex(MARKS)), Ok(marks));
    let later =
        [Record::Alarm(Some(Timestamp(300))), Record::State("rules".into()), Record::Deleted];
    let entry = encode_entry(&room("lobby"), 3, &later);
    assert_eq!(hex(&entry), LATER_ENTRY);
    let decoded = Entry { room: room("lobby"), deletion: 3, records: later.into() };
    assert_eq!(Entry::decode(&entry), Ok(decoded));
    let (rules, trim, idle) = (Some(Timestamp(300)), None, Some(Timestamp(1)));
    let alarms = Alarms { rules, trim, idle };
    assert_eq!(hex(&alarms.encode()), ALARMS);
    assert_eq!(Alarms::decode(&unhex(ALARMS)), Ok(alarms));
    let sweep = Sweep::of(&"limits", [].into_iter(), Some("lobby".into()));
    assert_eq!(hex(&sweep.encode()), SWEEP);
    assert_eq!(Sweep::decode(&unhex(SWEEP)), Ok(sweep));
    let jump = Jump { from: Timestamp(300), to: Timestamp(1), doubted: Some(Timestamp(2)) };
    let past = Past { seen: Timestamp(7), doubted: Some(Timestamp(300)), jumps: vec![jump] };
    assert_eq!(hex(&ClockRow::encode(&past)), CLOCK);
    assert_eq!(ClockRow::decode(&unhex(CLOCK)), Ok(past));
    assert_eq!(hex(&encode_drain(1500)), DRAIN);
    assert_eq!(decode_drain(&unhex(DRAIN)), Ok(1500));
}

const ENTRY: &str = "\
    01011af140056c6f626279030400ac028080b3c19c33017369787465656e2062797465206b657901\
    04027b7d21010708010275310361646101036d6f6400090102070307";
const SEAT: &str = "0140e4f3e70708010275310361646101036d6f64000901";
const ROOM: &str = "01cfe3908201ac020402050607080572756c6573";
const CHUNK: &str = "\
    0143b0ce5303018080b3c19c331f2828b52ffd201ff90000ac028080b3c19c33017369787465656e\
    2062797465206b65790104027b7d21";
const KEYS: &str = "0172d884d40301007369787465656e2062797465206b6579";
const IDENTITY: &str =
    "0198ee6ae882020101010101010101010101010101010101010101010101010101010101010101";
const MARKS: &str = "012d47b3a082020302";
const LATER_ENTRY: &str = "01aa4c94f6056c6f62627903030401ac02050572756c657306";
const ALARMS: &str = "01cdc95c0b01ac02000101";
const SWEEP: &str = "0168ec93a1e9c4e9c40101056c6f626279";
const CLOCK: &str = "0145d7055e0701ac0201ac02010102";
const DRAIN: &str = "01644186fbdc0b";

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_chunk_is_full_at_its_limits_and_goes_on_where_it_was() {
    let mut all = OpenChunk::new(1);
    let taken = (1..).take_while(|&seq| all.push(&keyed(seq), LATE)).count();
    assert_eq!(taken, chunk::CHUNK_MESSAGES);
    let (sealed, keys) = (all.encode(0), all.encode_keys(0).unwrap());
    assert!(keys.len() < 2000, "beyond 2,030 bytes a row takes 4 KiB, this one has {}", keys.len());
    let chunk = Chunk::decode(&sealed).unwrap();
    assert_eq!(chunk.messages(1).unwrap(), (1..=112).map(keyed).collect::<Vec<_>>());
    assert_eq!(chunk.messages(2), Err(DecodeError::Body));
    let keys = Keys::decode(&keys, 1, 0).unwrap();
    assert_eq!(keys, (1..=112).map(|seq| (key(seq), seq)).collect::<Vec<_>>());
    assert_eq!(OpenChunk::resume(1, 113, &chunk, keys.clone()), Ok(all));
    assert_eq!(OpenChunk::resume(1, 112, &chunk, keys), Err(DecodeError::Body));

    let large = |seq| Message { body: vec![7; 30 << 10].into(), ..message(seq) };
    let mut open = OpenChunk::new(1);
    assert!(
        open.push(&large(1), LATE) && open.push(&large(2), LATE) && !open.push(&large(3), LATE)
    );
    assert_eq!(Chunk::decode(&open.encode(0)).unwrap().messages(1).unwrap().len(), 2);
    let mut open = OpenChunk::new(1);
    assert!(open.push(&Message { body: vec![7; BODY_BYTES].into(), ..message(1) }, LATE));
    assert!(!open.push(&message(2), LATE));
    assert_eq!(Chunk::decode(&open.encode(0)).unwrap().messages(1).unwrap().len(), 1);
}

#[test]
fn a_room_row_of_the_built_in_room_is_small() {
    let large = u64::MAX >> 11;
    let row = RoomRow {
        deletion: large,
        newest: large,
        newest_time: Timestamp(large),
        oldest: large,
        moved: large,
        open: large,
        chunk_bytes: large,
        keys: large,
        rules: Bytes::new(),
    };
    assert!(row.encode().len() < 100, "{}", row.encode().len());
}

#[test]
fn a_chunk_cannot_claim_to_be_huge() {
    let mut open = OpenChunk::new(1);
    open.push(&message(1), LATE);
    let sealed = open.encode(0);
    let mut chunk = Chunk::decode(&sealed).unwrap();
    chunk.claim(u32::MAX);
    assert_eq!(chunk.messages(1), Err(DecodeError::Body));
    chunk.claim(BODY_BYTES as u32);
    assert_eq!(chunk.messages(1), Err(DecodeError::Body));
}

/// Every decoder, on the same bytes.
fn decode_all(bytes: &[u8]) -> [bool; 8] {
    let chunk = Chunk::decode(bytes);
    [
        Entry::decode(bytes).is_ok(),
        decode_seat(bytes).is_ok(),
        RoomRow::decode(bytes).is_ok(),
        chunk.is_ok_and(|chunk| chunk.messages(1).is_ok()),
        Keys::decode(bytes, u64::MAX - 1, 0).is_ok(),
        IdentityRow::decode(bytes).is_ok(),
        Marks::decode(bytes).is_ok(),
        decode_drain(bytes).is_ok(),
    ]
}

/// A body with the head that makes it believable.
fn with_head(body: &[u8]) -> Vec<u8> {
    let crc = crc32fast::hash(body).to_le_bytes();
    [&[VERSION], &crc[..], body].concat()
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode_all(&bytes), [false; 8]);
    }

    #[test]
    fn arbitrary_bodies_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&with_head(&bytes));
    }

    #[test]
    fn a_damaged_value_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut open = OpenChunk::new(1);
        (1..20).for_each(|seq| assert!(open.push(&keyed(seq), LATE)));
        let records = [Record::Message(message(1)), Record::Seat(seat(1))];
        for mut value in [
            encode_entry(&room("lobby"), 0, &records),
            encode_seat(&seat(1)),
            a_row().encode(),
            open.encode(0),
            open.encode_keys(0).unwrap(),
        ] {
            let at = at.index(value.len());
            value[at] ^= flip;
            prop_assert_eq!(decode_all(&value), [false; 8]);
            // With a checksum that fits the damage it may be believed, and must not panic.
            decode_all(&with_head(&value[5..]));
            decode_all(&value[..at]);
        }
    }
}
