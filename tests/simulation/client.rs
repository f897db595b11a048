//! What one simulated person wants next.
//!
//! A person remembers what a good client does: its session token, its position, and what it
//! said without being answered.

use std::collections::VecDeque;

use dormouse::protocol::{Epoch, Profile, v1::Since};
use dormouse::room::Connection;

use crate::dice::Dice;

/// A person.
pub struct Client {
    pub profile: Profile,
    pub dice: Dice,
    /// The connection it uses now.
    pub link: Option<Connection>,
    pub session: Option<String>,
    pub position: Option<Since>,
    /// The log's epoch, from the newest welcome.
    pub epoch: Option<Epoch>,
    /// Keyed publishes that want an answer: said, or to be said again.
    pub owed: VecDeque<usize>,
    /// How often it came without a session token, and so as somebody else.
    pub author: u64,
    /// No earlier than this it tries again, in ms.
    pub patience_ms: u64,
}

/// A publish that somebody made.
pub struct Said {
    pub text: String,
    pub key: Option<String>,
    /// Which of its client's identities said it: a key is worth nothing under another.
    pub author: u64,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Nothing,
    /// To come (back) in, with what it remembers of its seat and of the log.
    Join {
        session: bool,
        position: bool,
    },
    /// To say something new.
    Say {
        keyed: bool,
    },
    /// To say again what was not answered.
    SayAgain(usize),
    Rename,
    /// To lose its connection.
    Drop,
    /// To say goodbye.
    Bye,
    /// To come in beside its own connection, as after a change of network.
    TakeOver,
    /// The same, but the old connection says goodbye while the new one says hello.
    SwapWithBye,
}

impl Client {
    pub fn new(profile: Profile, dice: Dice) -> Self {
        Self {
            profile,
            dice,
            link: None,
            session: None,
            position: None,
            epoch: None,
            owed: VecDeque::new(),
            author: 0,
            patience_ms: 0,
        }
    }

    /// It got no answer, or was told to try again.
    pub fn owe(&mut self, number: usize, said: &Said) {
        if said.key.is_some() && said.author == self.author && !self.owed.contains(&number) {
            self.owed.push_back(number);
        }
    }

    /// What it does next. `seated`: its connection has its seat.
    pub fn wish(&mut self, now_ms: u64, seated: bool) -> Wish {
        let throw = self.dice.below(100);
        let Some(_) = self.link else {
            if now_ms < self.patience_ms || throw < 15 {
                return Wish::Nothing;
            }
            return Wish::Join { session: self.dice.chance(85), position: self.dice.chance(90) };
        };
        if !seated {
            return if throw < 10 { Wish::Drop } else { Wish::Nothing };
        }
        if self.profile == Profile::Seed {
            return match throw {
                0..70 => Wish::Say { keyed: false },
                70..80 => Wish::Rename,
                80..88 => Wish::Drop,
                88..92 => Wish::Bye,
                _ => Wish::Nothing,
            };
        }
        if !self.owed.is_empty() && now_ms >= self.patience_ms && self.dice.chance(60) {
            return Wish::SayAgain(self.owed[0]);
        }
        match throw {
            0..50 => Wish::Say { keyed: true },
            50..72 => Wish::Say { keyed: false },
            72..79 => Wish::Drop,
            79..82 => Wish::Bye,
            82..86 => Wish::TakeOver,
            86..89 => Wish::SwapWithBye,
            _ => Wish::Nothing,
        }
    }
}
