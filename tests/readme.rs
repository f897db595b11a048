//! The README and the page of guarantees say which test holds which promise: those tests must be
//! there.

use std::fs;
use std::path::Path;

/// How many promises there are.
const PROMISES: usize = 18;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

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

fn code() -> String {
    let mut code = String::new();
    source(&root().join("src"), &mut code);
    source(&root().join("tests"), &mut code);
    code
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn the_tests_that_the_readme_names_are_there() {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let code = code();

    let rows: Vec<&str> = readme.lines().filter(|line| is_promise(line)).collect();
    assert_eq!(rows.len(), PROMISES, "every promise has its row");
    for row in rows {
        let held_by = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        let tests = quoted(held_by);
        assert!(!tests.is_empty() || row.contains("not yet"), "nothing holds {row}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "there is no test {test}: {row}");
        }
    }
}

#[test]
fn the_tests_that_the_guarantees_name_are_there() {
    let page = root().join("docs/guarantees.md");
    let page = fs::read_to_string(page).expect("there is a page of guarantees");
    let code = code();

    let sections = page.split("\n## ").skip(1);
    let promises: Vec<&str> = sections.filter(|section| number(section).is_some()).collect();
    assert_eq!(promises.len(), PROMISES, "every promise has its section");
    for (promise, expected) in promises.into_iter().zip(1..) {
        let title = promise.lines().next().unwrap_or_default();
        assert_eq!(number(promise), Some(expected), "{title}");
        assert!(promise.contains("\n*Breaks it:*"), "what breaks {title}?");
        let held_by = promise.split("\n*Held by*").nth(1).unwrap_or_default();
        let tests = quoted(held_by);
        assert!(!tests.is_empty(), "nothing holds {title}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "there is no test {test}: {title}");
        }
    }
}

#[test]
fn the_tests_that_the_rust_clients_page_names_are_there() {
    let page = root().join("docs/client-rust.md");
    let page = fs::read_to_string(page).expect("there is a page of the client in Rust");
    let code = code();

    let promises: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(promises.len() > 5, "a row each, below the two of the head");
    for promise in promises.into_iter().filter(|line| !line.contains("---")) {
        let tests = quoted(promise.trim_end_matches('|').rsplit('|').next().unwrap_or_default());
        assert!(!tests.is_empty(), "nothing holds {promise}");
        for test in tests {
            assert!(code.contains(&format!("fn {test}(")), "there is no test {test}: {promise}");
        }
    }
}

/// Whether a line is a row of the table of promises: it begins with a number.
fn is_promise(line: &str) -> bool {
    let first = line.strip_prefix("| ").and_then(|rest| rest.split_once(' '));
    first.is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}

/// The number in a section's title.
fn number(section: &str) -> Option<usize> {
    section.split_once(". ").and_then(|(number, _)| number.parse().ok())
}
