//! Who is here, as a client builds it from what it is told.

use std::collections::BTreeMap;

use serde_json::Value;

pub struct View {
    pub version: u64,
    /// Whole entries by `sid`.
    pub members: BTreeMap<String, Value>,
    /// How often all of it was told anew.
    pub resets: usize,
}

impl View {
    /// As of a welcome.
    pub fn of(welcome: &Value) -> Self {
        let version = welcome["presence_version"].as_u64().unwrap();
        let mut view = Self { version, members: BTreeMap::new(), resets: 0 };
        view.put(&welcome["members"]);
        view
    }

    /// Takes a `presence` frame: the next change, or the whole.
    pub fn see(&mut self, frame: &Value) {
        assert_eq!(frame["type"], "presence");
        let version = frame["version"].as_u64().unwrap();
        if frame["reset"] == true {
            assert!(version >= self.version, "{frame} after {}", self.version);
            self.members.clear();
            self.resets += 1;
            self.put(&frame["members"]);
        } else {
            assert_eq!(version, self.version + 1, "no change is left out: {frame}");
            self.put(&frame["join"]);
            self.put(&frame["update"]);
            for sid in frame["leave"].as_array().into_iter().flatten() {
                assert!(self.members.remove(sid.as_str().unwrap()).is_some(), "{frame}");
            }
        }
        self.version = version;
        assert_eq!(frame["count"], self.members.len(), "{frame}");
    }

    /// The names of those who are here, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> =
            self.members.values().map(|member| member["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// The entry of that name, null if there is none.
    pub fn named(&self, name: &str) -> Value {
        let mut members = self.members.values();
        members.find(|member| member["name"] == name).cloned().unwrap_or_default()
    }

    fn put(&mut self, members: &Value) {
        for member in members.as_array().into_iter().flatten() {
            self.members.insert(member["sid"].as_str().unwrap().to_owned(), member.clone());
        }
    }
}
