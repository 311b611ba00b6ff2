//! A receiver that sometimes refuses, fails or does not answer.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::events::uid_of_finding;
use crate::support::Dice;
use crate::support::receiver::{Receiver, Reply, status};

/// A control whose events the receiver never takes.
pub const REFUSED: &str = "27b24961-75ba-4fe4-8909-97286d5dd5ee";

/// Starts the receiver. Returns it with the events that it accepted, in order.
pub async fn unreliable() -> (Receiver, Arc<Mutex<Vec<Value>>>) {
    let (taken, dice) = (Arc::new(Mutex::new(Vec::new())), Mutex::new(Dice::new(7)));
    let takes = Arc::clone(&taken);
    let receiver = Receiver::start(move |_, post| {
        let chance = dice.lock().roll(40);
        take(&post.lines(), &takes, chance)
    });
    (receiver.await, taken)
}

fn take(lines: &[String], taken: &Mutex<Vec<Value>>, chance: u64) -> Reply {
    let events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    if chance == 0 {
        return status(503);
    }
    if events.len() > 20 {
        return status(413);
    }
    if events.iter().any(|event| uid_of_finding(event).ends_with(REFUSED)) {
        return status(400);
    }
    taken.lock().extend(events);
    if chance == 1 { Reply::Cut } else { status(200) }
}
