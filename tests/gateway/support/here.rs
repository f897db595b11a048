//! Who is here, as a client puts it together: from its welcome and every frame since.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Client, House};

/// What a client was told of who is here. Every frame has to continue the one before.
#[derive(Debug)]
pub struct View {
    pub version: u64,
    pub count: u64,
    /// By `sid`.
    pub members: BTreeMap<String, Value>,
}

impl View {
    /// As the welcome says.
    pub fn of(client: &Client) -> Self {
        let welcome = &client.welcome;
        let mut view = Self {
            version: welcome["presence_version"].as_u64().unwrap(),
            count: welcome["count"].as_u64().unwrap(),
            members: BTreeMap::new(),
        };
        view.put(&welcome["members"]);
        view
    }

    /// Reads the next presence frame, takes it in and gives it back.
    pub async fn next(&mut self, client: &mut Client) -> Value {
        let frame = client.next_of("presence").await;
        self.take(&frame);
        frame
    }

    /// Reads presence frames until it is so.
    pub async fn until(&mut self, client: &mut Client, is: impl Fn(&Self) -> bool) {
        while !is(self) {
            self.next(client).await;
        }
    }

    /// Reads presence frames until just these are here; names are sorted.
    pub async fn until_here(&mut self, client: &mut Client, names: &[&str]) {
        self.until(client, |view| view.names() == names).await;
    }

    /// The names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> =
            self.members.values().map(|m| m["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// The member of this name.
    pub fn member(&self, name: &str) -> &Value {
        self.members.values().find(|member| member["name"] == name).expect("it is here")
    }

    pub fn is_away(&self, name: &str) -> bool {
        self.member(name)["away"] == true
    }

    pub fn take(&mut self, frame: &Value) {
        let version = frame["version"].as_u64().unwrap();
        if frame["reset"] == true {
            assert!(version >= self.version, "{frame} after {}", self.version);
            self.members.clear();
        } else {
            assert_eq!(version, self.version + 1, "no change is missing: {frame}");
        }
        self.version = version;
        self.count = frame["count"].as_u64().unwrap();
        self.put(&frame["members"]);
        self.put(&frame["join"]);
        self.put(&frame["update"]);
        for sid in frame["leave"].as_array().into_iter().flatten() {
            self.members.remove(sid.as_str().unwrap());
        }
    }

    fn put(&mut self, members: &Value) {
        for member in members.as_array().into_iter().flatten() {
            self.members.insert(member["sid"].as_str().unwrap().to_owned(), member.clone());
        }
    }
}

impl Client {
    /// The next frame of one of two types; others stay for later.
    pub async fn next_of_either(&mut self, one: &str, other: &str) -> Value {
        self.next_that(|frame| frame["type"] == one || frame["type"] == other).await
    }
}

impl House {
    /// How often rooms were woken, whatever for.
    pub async fn wakes(&self) -> f64 {
        let metrics = self.operator("GET", "/metrics", "").await.body;
        let lines = metrics.lines().filter(|line| line.starts_with("dormouse_room_wakes_total"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// A room in which something was said, and which sleeps.
    pub async fn slept(&self, room: &str, client: &mut Client) {
        client.say("before the nap").await;
        client.message().await;
        self.hibernate(room).await;
        self.until(room, |room| room["state"] == "asleep").await;
    }
}
