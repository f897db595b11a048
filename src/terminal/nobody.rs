//! No `dormouse chat` and no `dormouse tail`: this binary was built without the `client`.

use std::error::Error;

use clap::{ArgMatches, Command};

pub fn commands() -> [Command; 0] {
    []
}

pub fn run(_: &ArgMatches) -> Option<Result<(), Box<dyn Error>>> {
    None
}

pub fn hint(_: &(dyn Error + 'static)) -> Option<&'static str> {
    None
}
