//! The README says which test holds which promise: those tests must be there.

use std::fs;
use std::path::Path;

/// All Rust source below a folder, as one text.
fn source(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            source(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("source is text"));
        }
    }
}

#[test]
fn the_tests_that_the_readme_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).expect("there is a README");
    let mut code = String::new();
    source(&root.join("src"), &mut code);
    source(&root.join("tests"), &mut code);

    let rows: Vec<&str> = readme.lines().filter(|line| is_promise(line)).collect();
    assert_eq!(rows.len(), 18, "every promise has its row");
    for row in rows {
        let held_by = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let tests: Vec<&str> = held_by.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty() || row.contains("not yet"), "nothing holds {row}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "there is no test {test}: {row}");
        }
    }
}

/// Whether a line is a row of the table of promises: it begins with a number.
fn is_promise(line: &str) -> bool {
    let first = line.strip_prefix("| ").and_then(|rest| rest.split_once(' '));
    first.is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}
