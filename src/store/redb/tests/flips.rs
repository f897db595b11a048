//! Every row of both files with a wrong byte: an error that names it, never "there is none".

use super::*;
use crate::store::redb::file::{KEYS, META, SEATS};

/// A row as it can be written: its table, its key, and what it is called in errors.
#[derive(Debug, Clone)]
struct Row {
    table: String,
    key: (String, u64),
    value: Vec<u8>,
}

/// All rows of both files that have a value.
fn rows_of(store: &Redb) -> Vec<Row> {
    let mut rows = Vec::new();
    for file in [Name::Journal, Name::Rooms] {
        let txn = read(store, file);
        for table in txn.list_tables().unwrap() {
            let table = redb::TableHandle::name(&table).to_owned();
            let mut add = |key: (&str, u64), value: &[u8]| {
                let key = (key.0.to_owned(), key.1);
                rows.push(Row { table: table.clone(), key, value: value.to_vec() });
            };
            match table.as_str() {
                "journal" => {
                    for row in ReadableTable::iter(&txn.open_table(JOURNAL).unwrap()).unwrap() {
                        let (key, value) = row.unwrap();
                        add(("", key.value()), value.value());
                    }
                }
                "due" => {} // all is in its keys, and `check` compares them with the alarms
                "rooms" | "alarms" | "meta" => {
                    let definition = redb::TableDefinition::<&str, &[u8]>::new(&table);
                    for row in ReadableTable::iter(&txn.open_table(definition).unwrap()).unwrap() {
                        let (key, value) = row.unwrap();
                        add((key.value(), u64::from(file == Name::Rooms)), value.value());
                    }
                }
                "seats" | "chunks" | "keys" => {
                    let definition = redb::TableDefinition::<(&str, u64), &[u8]>::new(&table);
                    for row in ReadableTable::iter(&txn.open_table(definition).unwrap()).unwrap() {
                        let (key, value) = row.unwrap();
                        add(key.value(), value.value());
                    }
                }
                other => panic!("say how the rows of {other} are read, and what names them"),
            }
        }
    }
    rows
}

fn read(store: &Redb, file: Name) -> redb::ReadTransaction {
    match file {
        Name::Journal => lock(&store.shared.journal).file.read().unwrap(),
        Name::Rooms => lock(&store.shared.rooms).read().unwrap(),
    }
}

impl Row {
    fn file(&self) -> Name {
        match (self.table.as_str(), self.key.1) {
            ("journal", _) | ("meta", 0) => Name::Journal,
            _ => Name::Rooms,
        }
    }

    /// Writes another value in its place.
    fn put(&self, txn: &redb::WriteTransaction, value: &[u8]) {
        let key = (self.key.0.as_str(), self.key.1);
        match self.table.as_str() {
            "journal" => _ = txn.open_table(JOURNAL).unwrap().insert(key.1, value).unwrap(),
            "rooms" => _ = txn.open_table(ROOMS).unwrap().insert(key.0, value).unwrap(),
            "alarms" => _ = txn.open_table(ALARMS).unwrap().insert(key.0, value).unwrap(),
            "meta" => _ = txn.open_table(META).unwrap().insert(key.0, value).unwrap(),
            "seats" => _ = txn.open_table(SEATS).unwrap().insert(key, value).unwrap(),
            "chunks" => _ = txn.open_table(CHUNKS).unwrap().insert(key, value).unwrap(),
            "keys" => _ = txn.open_table(KEYS).unwrap().insert(key, value).unwrap(),
            other => panic!("say how a row of {other} is written"),
        }
    }

    fn put_open(&self, store: &Redb, value: &[u8]) {
        let txn = match self.file() {
            Name::Journal => lock(&store.shared.journal).file.write().unwrap(),
            Name::Rooms => lock(&store.shared.rooms).write().unwrap(),
        };
        self.put(&txn, value);
        txn.commit().unwrap();
    }

    /// How an error names it.
    fn name(&self) -> String {
        let (room, number) = &self.key;
        match self.table.as_str() {
            "journal" => format!("journal entry {number}"),
            "rooms" => format!("the row of room {room}"),
            "alarms" => format!("the alarms of room {room}"),
            "meta" => room.clone(),
            "seats" => format!("seat {number} of room {room}"),
            "chunks" => format!("chunk {number} of room {room}"),
            "keys" => format!("keys {number} of room {room}"),
            other => panic!("say what names a row of {other}"),
        }
    }

    /// Which of its bytes are tried: all of a short one, and the ends of a long one with every
    /// hundredth between.
    fn places(&self) -> impl Iterator<Item = usize> {
        let length = self.value.len();
        (0..length).filter(move |at| *at < 48 || length - *at <= 24 || at % 97 == 0)
    }

    fn with_a_wrong(&self, at: usize) -> Vec<u8> {
        let mut value = self.value.clone();
        value[at] ^= 0x10;
        value
    }
}

/// A store with a row of every kind, and unmoved entries.
fn with_all_kinds(dir: &tempfile::TempDir) -> Redb {
    let store = full(dir);
    let kinds =
        |store: &Redb| rows_of(store).iter().map(|row| row.table.clone()).collect::<BTreeSet<_>>();
    until(|| rows_of(&store).iter().any(|row| row.key.0 == "sweep"));
    let tables: Vec<_> = kinds(&store).into_iter().collect();
    assert_eq!(tables, ["alarms", "chunks", "journal", "keys", "meta", "rooms", "seats"]);
    store
}

/// What a store says that is asked everything of a room.
fn all_of(store: &Redb, name: &RoomName) -> Vec<String> {
    let told = [
        store.open(name).err(),
        store.read(name, 1, usize::MAX, usize::MAX).err(),
        store.keys(name).err(),
    ];
    told.into_iter().flatten().map(|error| error.to_string()).collect()
}

/// A damaged row of keys read as no keys, and what was said again took effect twice.
#[test]
fn a_wrong_byte_in_any_row_is_named_while_the_store_is_open() {
    let dir = dir();
    let store = with_all_kinds(&dir);
    let name = room("attic-a");
    assert_eq!(all_of(&store, &name), [""; 0]);
    let mut tried = 0;
    for row in rows_of(&store) {
        // Alarms and meta are not read with a room, see below; entries of the other room neither.
        let is_read = match row.table.as_str() {
            "alarms" | "meta" => false,
            "journal" => {
                lock(&store.shared.journal).index.get(&name).unwrap().entries[0].key == row.key.1
            }
            _ => row.key.0 == "attic-a",
        };
        for at in row.places().filter(|_| is_read) {
            row.put_open(&store, &row.with_a_wrong(at));
            let told = all_of(&store, &name);
            let is_named = told.iter().any(|error| error.contains(&row.name()));
            assert!(is_named, "byte {at} of {}: {told:?}", row.name());
            assert_eq!(store.open(&room("attic-b")).unwrap().newest, 301);
            tried += 1;
        }
        if is_read {
            row.put_open(&store, &row.value);
        }
    }
    assert!(tried > 400, "{tried}");
    assert_eq!(all_of(&store, &name), [""; 0]);
}

/// What is damaged is not moved away, nor trimmed, nor written anew as if there had been nothing.
#[test]
fn a_move_does_not_hide_what_is_damaged() {
    let name = room("attic-a");
    for table in ["alarms", "chunks", "keys", "rooms", "seats"] {
        let dir = dir();
        let store = with_all_kinds(&dir);
        let is_of = |row: &Row| row.table == table && row.key.0 == "attic-a";
        let row = rows_of(&store).into_iter().find(is_of).expect("it has one");
        row.put_open(&store, &row.with_a_wrong(row.value.len() / 2));
        let moved = store.hibernate(&name, None);
        let touched = store.touch(&name);
        let told = all_of(&store, &name);
        let errors = [moved.err(), touched.err()].into_iter().flatten();
        let told: Vec<_> = errors.map(|error| error.to_string()).chain(told).collect();
        assert!(told.iter().all(|error| error.contains(&row.name())), "{}: {told:?}", row.name());
        assert!(!told.is_empty(), "nothing tells of {}", row.name());
        assert!(rows_of(&store).iter().any(is_of), "{} is gone", row.name());
        assert_eq!(store.open(&room("attic-b")).unwrap().newest, 301);
    }
}

/// Damaged keys counted as none when the oldest were let go of, and a damaged chunk as too old.
#[test]
fn a_trim_does_not_hide_what_is_damaged() {
    let (store, _dir) = super::kept(settings().retention, keyed);
    let a = room("a");
    let rows = rows_of(&store);
    let first = |table: &str| rows.iter().find(|row| row.table == table).unwrap();
    for row in [first("keys"), first("chunks")] {
        row.put_open(&store, &row.with_a_wrong(row.value.len() / 2));
    }
    for round in 0..5 {
        let from = 6_001 + round * 500;
        let more = (from..from + 500).map(|seq| Record::Message(keyed(seq))).collect();
        append(&store, &a, more).unwrap();
        store.hibernate(&a, None).unwrap();
    }
    let told = all_of(&store, &a);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains(&first("chunks").name()), "{told:?}");
    assert!(told[1].contains(&first("keys").name()), "{told:?}");
}

/// The whole store did not open for a damaged row of one room, if that had something unmoved.
#[test]
fn a_damaged_row_of_a_room_with_something_unmoved_does_not_stop_a_start() {
    let dir = dir();
    let store = with_all_kinds(&dir);
    let is_head = |row: &Row| row.table == "rooms" && row.key.0 == "attic-a";
    let row = rows_of(&store).into_iter().find(is_head).unwrap();
    row.put_open(&store, &row.with_a_wrong(3));
    drop(store);
    let store = open(&dir);
    let told = all_of(&store, &room("attic-a"));
    assert!(told.iter().all(|error| error.contains(&row.name())) && told.len() == 3, "{told:?}");
    assert_eq!(store.open(&room("attic-b")).unwrap().newest, 301);
    store.hibernate(&room("attic-b"), None).unwrap();
    until(|| store.entries() == 1); // that of the damaged room

    // Mended from a copy, say: nothing of it was lost.
    row.put_open(&store, &row.value);
    store.hibernate(&room("attic-a"), None).unwrap();
    assert_eq!(store.open(&room("attic-a")).unwrap().newest, 301);
    until(|| store.entries() == 0);
}

/// `check` names every row that has a wrong byte, whichever it is; and a start either says which one
/// it is that keeps the store from opening, or the store opens.
#[test]
fn check_names_any_row_with_a_wrong_byte_and_so_does_a_start() {
    let dir = dir();
    let rows = {
        let store = with_all_kinds(&dir);
        let rows = rows_of(&store);
        store.close(0).unwrap();
        rows
    };
    let mut kinds = BTreeSet::new();
    for row in &rows {
        // One of each kind: of a table, or one of the things a file says of itself.
        let kind = (row.table.clone(), (row.table == "meta").then(|| row.key.clone()));
        if !kinds.insert(kind) {
            continue;
        }
        for at in [0, row.value.len() / 2, row.value.len() - 1] {
            tamper(&dir, row.file(), |txn| row.put(txn, &row.with_a_wrong(at)));
            let damaged = check(dir.path()).unwrap().damaged;
            let is_named = damaged.iter().any(|what| what.contains(&row.name()));
            assert!(is_named, "byte {at} of {}: {damaged:?}", row.name());
            if let Err(error) = Redb::open(dir.path(), settings()) {
                let error = error.to_string();
                assert!(error.contains(&row.name()), "{error} is not {}", row.name());
            }
            tamper(&dir, row.file(), |txn| row.put(txn, &row.value));
        }
    }
}
