//! Every manifest names the licence, and every package that is published holds its two texts.

use std::fs;
use std::path::{Path, PathBuf};

const LICENCE: &str = "MIT OR Apache-2.0";
const TEXTS: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All manifests of the repository, those of installed packages aside.
fn manifests(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            let is_installed = matches!(name, "node_modules" | "target" | ".git" | "installed");
            if !is_installed {
                manifests(&path, into);
            }
        } else if matches!(name, "Cargo.toml" | "package.json") {
            into.push(path);
        }
    }
}

#[test]
fn every_manifest_names_the_licence() {
    let mut found = Vec::new();
    manifests(root(), &mut found);
    for expected in ["Cargo.toml", "web-demo/client/package.json"] {
        assert!(found.contains(&root().join(expected)), "{expected} was not found");
    }
    for manifest in found {
        let text = fs::read_to_string(&manifest).expect("a manifest is text");
        let field = match manifest.extension().is_some_and(|extension| extension == "toml") {
            true => format!("license = \"{LICENCE}\""),
            false => format!("\"license\": \"{LICENCE}\""),
        };
        assert!(text.contains(&field), "{} does not say {field}", manifest.display());
    }
}

#[test]
fn the_texts_lie_in_the_repository_and_in_the_package_of_the_client() {
    for text in TEXTS {
        let ours = fs::read_to_string(root().join(text)).expect("the text is there");
        let clients = fs::read_to_string(root().join("web-demo/client").join(text));
        assert_eq!(clients.expect("the client's package has a copy"), ours, "{text}");
    }
    let mit = fs::read_to_string(root().join("LICENSE-MIT")).expect("the text is there");
    assert!(mit.contains("The Dormouse contributors"), "the MIT text names the copyright holder");
}
