//! A store that cannot be opened: two lines that fit the cause, whichever command meets it.

use std::path::Path;

use rustix::process::Signal;

use crate::support::process::{ANYWHERE, dormouse, open, run};

const FEW: [&str; 2] = ["--gateway-connections", "9"]; // or it says how many files it may open

/// A store with a room in it, that no process has.
fn whole() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (child, _) = open(dormouse(dir.path(), &[&ANYWHERE[..], &FEW].concat()));
    assert_eq!(child.told(Signal::TERM), Some(0));
    dir
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

type Deed = fn(&Path);

const DEEDS: [(&str, Deed); 5] = [
    ("garbage", |file| write(file, b"This is no database. It only says so, at some length.")),
    ("cut short", |file| {
        std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(5_000).unwrap();
    }),
    ("overwritten", |file| {
        let mut bytes = std::fs::read(file).unwrap();
        bytes[64..].fill(0xaa);
        write(file, &bytes);
    }),
    ("a directory", |file| {
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
    }),
    ("another program's", |file| {
        const THEIRS: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("meta");
        std::fs::remove_file(file).unwrap();
        let db = redb::Database::create(file).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(THEIRS).unwrap().insert(1, 2).unwrap();
        txn.commit().unwrap();
    }),
];

#[test]
fn a_damaged_store_is_said_in_two_lines_and_leads_to_the_check() {
    for file in ["rooms.redb", "journal.redb"] {
        for (what, deed) in DEEDS {
            let dir = whole();
            deed(&dir.path().join("dormouse-data").join(file));
            let what = format!("{file}, {what}");

            let (code, said) = run(dir.path(), &[&ANYWHERE[..], &FEW].concat());
            assert_eq!(code, Some(1), "{what}: {said}");
            assert_eq!(said.lines().count(), 2, "{what}: {said}");
            let begin = "dormouse: cannot open the data directory dormouse-data: ";
            assert!(said.starts_with(begin), "{what}: {said}");
            let hint = "hint: dormouse check --data-dir dormouse-data says what is wrong";
            assert!(said.contains(hint), "{what}: {said}");

            let store = ["--data-dir", "dormouse-data"];
            for asked in [&["check"][..], &["rooms"], &["history", "lobby"]] {
                let (code, said) = run(dir.path(), &[asked, &store].concat());
                assert_eq!(code, Some(1), "{what}, {asked:?}: {said}");
                for never in ["panicked", "backtrace", "user may write"] {
                    assert!(!said.contains(never), "{what}, {asked:?}: {said}");
                }
                let names = said.contains(file) || what.ends_with("another program's");
                assert!(names, "{what}, {asked:?}: {said}");
            }
        }
    }
}

/// Only then is it this user's rights that are in question.
#[test]
fn a_directory_that_may_not_be_written_and_one_that_is_a_file_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let (code, said) = run(
        dir.path(),
        &[&ANYWHERE[..], &FEW, &["--data-dir", "file", "--certs-dir", "."]].concat(),
    );
    assert_eq!(code, Some(1));
    assert!(said.ends_with("\n  hint: choose another directory with --data-dir\n"), "{said}");
    if rustix::process::geteuid().is_root() && !Path::new("/proc/sys/kernel").is_dir() {
        return eprintln!("skipped: root may write everywhere");
    }
    // Nobody may make a directory there, root included.
    let (code, said) =
        run(dir.path(), &[&ANYWHERE[..], &FEW, &["--data-dir", "/proc/sys/kernel/x"]].concat());
    assert_eq!(code, Some(1));
    let denied = said.contains("check that this user may write there");
    assert!(denied || said.contains("No such file"), "{said}");
}
