//! What happened last in a simulation, kept for the message of its failure.

use std::collections::VecDeque;
use std::fmt;

use super::world::Actor;
use crate::time::Time;
use crate::token::Token;

/// Events that a failure shows.
const KEPT: usize = 60;

/// See the module's page.
#[derive(Default)]
pub(super) struct Trace(VecDeque<(Time, Happened)>);

/// One event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Happened {
    /// Somebody was stepped.
    Stepped(Actor),
    /// A shard's operation was pushed.
    Pushed(usize, Token),
    /// A shard's operation completed: with this result, and more to come or not.
    Completed(usize, Token, i32, bool),
}

impl Trace {
    pub(super) fn add(&mut self, now: Time, happened: Happened) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, happened));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (time, happened) in &self.0 {
            let at = time.since(Time::ZERO);
            match happened {
                Happened::Stepped(actor) => writeln!(f, "{at:>14.3?}  {actor:?}")?,
                Happened::Pushed(shard, token) => writeln!(f, "{at:>14.3?}    shard {shard} > {}", named(*token))?,
                Happened::Completed(shard, token, result, more) => {
                    let more = if *more { ", more" } else { "" };
                    writeln!(f, "{at:>14.3?}    shard {shard} < {} = {result}{more}", named(*token))?;
                }
            }
        }
        Ok(())
    }
}

fn named(token: Token) -> String {
    format!("{:?} {}.{}", token.kind(), token.slot(), token.generation())
}
