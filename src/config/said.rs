//! What an operator said, and where: file, environment and flags laid over each other.
//!
//! Values stay text here. What they mean is decided once, when all is known, by
//! [`Config`](super::Config); what is remembered is where each came from, so that a complaint
//! can point at it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::settings::{Kind, SETTINGS, Setting, find};
use super::{DEFAULT_FILE, Error};
use crate::protocol::Pattern;

/// The sections for rooms by name: `[rooms."game-*"]`.
const ROOMS: &str = "rooms";

/// How many of them there may be: each is tried when a room begins.
pub const PATTERNS: usize = 64;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// A line of it, in the section for rooms of that pattern.
    Rooms(Box<Origin>, Pattern),
    /// An environment variable.
    Variable(String),
    /// A flag, without its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Rooms(line, pattern) => write!(f, "[rooms.\"{pattern}\"], {line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// A value as it was written. Lists are joined by commas, which no item of theirs contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The text.
    pub text: String,
    /// Who said it.
    pub origin: Origin,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.text, self.origin)
    }
}

/// Values by key. What was said later wins.
type Values = BTreeMap<&'static str, Value>;

/// Everything said.
#[derive(Debug, Clone, Default)]
pub struct Said {
    values: Values,
    /// What the file says of `[room]` for rooms of some names only.
    rooms: BTreeMap<Pattern, Values>,
}

impl Said {
    /// Reads file, environment and flags, the later over the earlier.
    pub fn read(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mut said = Self::default();
        let named = matches.get_one::<String>("config").map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => said.add_file(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
            Err(source) => return Err(Error::Unreadable { path, source }),
        }
        said.add_environment(environment)?;
        said.add_flags(matches);
        Ok(said)
    }

    /// The keys of what is said otherwise than in `other`; of rooms by name, the section's.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let differs = |it: &&Setting| self.of(it).text != other.of(it).text;
        let mut keys: Vec<_> =
            SETTINGS.iter().filter(differs).map(|it| it.key.to_owned()).collect();
        let texts = |values: &Values| -> Vec<_> {
            values.iter().map(|(key, value)| (*key, value.text.clone())).collect()
        };
        let patterns = self.rooms.keys().chain(other.rooms.keys()).collect::<BTreeSet<_>>();
        for pattern in patterns {
            if self.rooms.get(pattern).map(texts) != other.rooms.get(pattern).map(texts) {
                keys.push(format!("{ROOMS}.\"{pattern}\""));
            }
        }
        keys
    }

    /// Says of these keys what `other` does.
    pub fn take_over(&mut self, other: &Self, keys: &[&str]) {
        for key in keys {
            if let Some(setting) = find(key) {
                let Value { text, origin } = other.of(setting);
                self.say(setting, text, origin);
            }
        }
    }

    /// The value of a setting: what was said last, else its default.
    pub fn of(&self, setting: &Setting) -> Value {
        self.values
            .get(setting.key)
            .cloned()
            .unwrap_or_else(|| Value { text: setting.default.to_owned(), origin: Origin::Default })
    }

    fn say(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        self.values.insert(setting.key, Value { text, origin });
    }

    /// What is said for the rooms of each pattern: what stands in its own section before all that
    /// is said of rooms, wherever that was.
    pub fn kinds(&self) -> impl Iterator<Item = (&Pattern, Self)> {
        self.rooms.iter().map(|(pattern, special)| {
            let mut values = self.values.clone();
            values.extend(special.iter().map(|(key, value)| (*key, value.clone())));
            (pattern, Self { values, rooms: BTreeMap::new() })
        })
    }

    /// Adds what a file says.
    pub fn add_file(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        let at = |offset: usize| Origin::File(path.to_owned(), line_of(text, offset));
        let table = DeTable::parse(text).map_err(|error| Error::Syntax {
            message: error.message().to_owned(),
            origin: at(error.span().map_or(0, |span| span.start)),
        })?;
        for (key, value) in table.into_inner() {
            let origin = at(key.span().start);
            let key = key.into_inner().into_owned();
            match value.into_inner() {
                DeValue::Table(sections) if key == ROOMS => {
                    self.add_rooms(sections, &at)?;
                }
                DeValue::Table(section) => {
                    if !SETTINGS.iter().any(|setting| setting.section() == Some(&key)) {
                        return Err(Error::unknown(format!("[{key}]"), origin));
                    }
                    for (name, value) in section {
                        let origin = at(name.span().start);
                        let key = format!("{key}.{}", name.get_ref());
                        let (setting, text) = read_entry(&key, value.get_ref(), &origin)?;
                        self.say(setting, text, origin);
                    }
                }
                value => {
                    let (setting, text) = read_entry(&key, &value, &origin)?;
                    self.say(setting, text, origin);
                }
            }
        }
        Ok(())
    }

    /// Adds the sections for rooms by name: each may say what `[room]` may.
    fn add_rooms(
        &mut self,
        sections: DeTable<'_>,
        at: &dyn Fn(usize) -> Origin,
    ) -> Result<(), Error> {
        for (name, section) in sections {
            let origin = at(name.span().start);
            let name = name.get_ref();
            let DeValue::Table(section) = section.into_inner() else {
                return Err(Error::unknown(format!("{ROOMS}.{name}"), origin));
            };
            let pattern: Pattern = match name.parse() {
                Ok(pattern) => pattern,
                Err(source) => {
                    return Err(Error::Pattern { name: name.to_string(), origin, source });
                }
            };
            let mut values = Values::new();
            for (name, value) in section {
                let origin = Origin::Rooms(Box::new(at(name.span().start)), pattern.clone());
                let key = format!("room.{}", name.get_ref());
                let (setting, text) = read_entry(&key, value.get_ref(), &origin)?;
                values.insert(setting.key, Value { text, origin });
            }
            self.rooms.insert(pattern, values);
            if self.rooms.len() > PATTERNS {
                return Err(Error::TooManyPatterns { most: PATTERNS, origin });
            }
        }
        Ok(())
    }

    /// Adds what the environment says: every `DORMOUSE_…`.
    ///
    /// The environment is not ours alone. A name in one of our sections, or like one of our
    /// settings, is a mistake worth an error; any other is said and left alone.
    pub fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), Error> {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix("DORMOUSE_") else { continue };
            if is_from_kubernetes(rest) {
                continue;
            }
            let origin = Origin::Variable(name.clone());
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) {
                self.say(setting, text, origin);
            } else if in_a_section(rest) || meant(rest).is_some() {
                return Err(Error::unknown(name, origin));
            } else {
                tracing::warn!("the environment variable {name} is no setting and is ignored");
            }
        }
        Ok(())
    }

    /// Adds what the flags say, made from the same table by [`flags`](super::flags).
    pub fn add_flags(&mut self, matches: &ArgMatches) {
        for setting in SETTINGS {
            if let Ok(Some(texts)) = matches.try_get_many::<String>(setting.key) {
                let texts: Vec<_> = texts.map(String::as_str).collect();
                self.say(setting, texts.join(","), Origin::Flag(setting.flag()));
            }
        }
    }
}

/// A cluster gives every container `DORMOUSE_SERVICE_HOST`, `DORMOUSE_PORT_4433_TCP` and the
/// like when a service is called `dormouse`, or `dormouse-gateway`: nobody said those to us.
fn is_from_kubernetes(rest: &str) -> bool {
    ["SERVICE_HOST", "SERVICE_PORT", "PORT"].iter().any(|word| {
        let mut words = rest.match_indices(word);
        words.any(|(at, _)| {
            let after = &rest[at + word.len()..];
            (at == 0 || rest.as_bytes()[at - 1] == b'_')
                && (after.is_empty() || after.starts_with('_'))
        })
    })
}

fn in_a_section(rest: &str) -> bool {
    let first = rest.split('_').next().unwrap_or(rest).to_lowercase();
    SETTINGS.iter().any(|setting| setting.section() == Some(&first))
}

/// The setting that an unknown name was perhaps meant to be: one with the same last words.
pub(super) fn meant(name: &str) -> Option<&'static Setting> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', '.'], "");
    let said = plain(name);
    SETTINGS.iter().find(|setting| {
        let (key, short) = (plain(setting.key), plain(setting.name()));
        said == key || said.ends_with(&short)
    })
}

/// The setting of that key, and what is said of it, as text.
fn read_entry(
    key: &str,
    value: &DeValue<'_>,
    origin: &Origin,
) -> Result<(&'static Setting, String), Error> {
    let Some(setting) = find(key) else {
        return Err(Error::unknown(key.to_owned(), origin.clone()));
    };
    let text = match value {
        DeValue::Array(items) if setting.kind.is_list() => {
            let texts: Option<Vec<_>> = items.iter().map(|i| scalar(i.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Array(items) if setting.kind == Kind::Pairs => pairs(items),
        value => scalar(value),
    };
    match text {
        Some(text) => Ok((setting, text)),
        None => {
            let text = value.type_str().to_owned();
            Err(Error::invalid(setting, Value { text, origin: origin.clone() }))
        }
    }
}

/// A list of lists of texts, as the JSON that a flag would say.
fn pairs(items: &DeArray<'_>) -> Option<String> {
    let pair = |item: &Spanned<DeValue<'_>>| match item.get_ref() {
        DeValue::Array(texts) => {
            texts.iter().map(|text| scalar(text.get_ref())).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    let pairs: Vec<_> = items.iter().map(pair).collect::<Option<_>>()?;
    Some(serde_json::json!(pairs).to_string())
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Boolean(yes) => Some(yes.to_string()),
        _ => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
}
