//! Notes that gateways exchange about messages on plain Redis channels, which carry only bytes: the position of a message
//! in the chain of messages that each caused the next.
//!
//! The note is sent on a channel beside the message's, in one step with it and before it, so a connection that listens to
//! both receives the note first. It identifies its message by a digest and is used once. Other listeners on the message's
//! channel do not see it.
//!
//! Limit: [`KEPT_MAX`] notes of a channel wait for their message, each for [`KEPT`]. A message counts as the first of its
//! chain if its note is lost, as messages may be, or if another program sent it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::ids::{Digest, Line};

const KEPT_MAX: usize = 64;
const KEPT: Duration = Duration::from_secs(5);
/// How many bytes of a message its digest covers, in addition to its length.
const LOOKED_AT: usize = 4096;

/// A note about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    message: String,
    line: Line,
}

impl Note {
    pub(super) fn of(payload: &[u8], line: Line) -> Self {
        Self { message: name(payload), line }
    }

    pub(super) fn text(&self) -> Vec<u8> {
        format!("{} {}", self.line, self.message).into_bytes()
    }

    fn read(text: &[u8]) -> Option<Self> {
        let (line, message) = std::str::from_utf8(text).ok().filter(|text| text.len() < 200)?.split_once(' ')?;
        Some(Self { message: message.to_owned(), line: Line::parse(line)? })
    }
}

/// Enough to distinguish a tenant's own messages.
fn name(payload: &[u8]) -> String {
    let start = payload.get(..LOOKED_AT).unwrap_or(payload);
    format!("{} {}", payload.len(), Digest::of(start))
}

/// Notes that wait for their messages, by the messages' channel.
#[derive(Debug, Default)]
pub(super) struct Notes(HashMap<Vec<u8>, VecDeque<(Instant, Note)>>);

impl Notes {
    /// Keeps a note that was received for a channel.
    pub(super) fn add(&mut self, channel: &[u8], text: &[u8], now: Instant) {
        let Some(note) = Note::read(text) else { return };
        let of = self.0.entry(channel.to_vec()).or_default();
        of.retain(|(since, _)| now.duration_since(*since) < KEPT);
        if of.len() >= KEPT_MAX {
            of.pop_front();
        }
        of.push_back((now, note));
    }

    /// The position of a received message. This uses up its note.
    pub(super) fn line(&mut self, channel: &[u8], payload: &[u8], now: Instant) -> Line {
        let Some(of) = self.0.get_mut(channel) else { return Line::first() };
        of.retain(|(since, _)| now.duration_since(*since) < KEPT);
        let name = if of.is_empty() { String::new() } else { name(payload) };
        let at = of.iter().position(|(_, note)| note.message == name);
        let line = at.and_then(|at| of.remove(at)).map_or_else(Line::first, |(_, note)| note.line);
        if of.is_empty() {
            self.0.remove(channel);
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RequestId;

    fn at(number: u32) -> Line {
        Line { number, cause: RequestId::new() }
    }

    #[test]
    fn a_note_belongs_to_one_message_of_its_channel() {
        let mut notes = Notes::default();
        let now = Instant::now();
        notes.add(b"one", &Note::of(b"hello", at(7)).text(), now);
        notes.add(b"one", b"no note", now);
        assert_eq!(notes.line(b"two", b"hello", now).number, 1, "of another channel");
        assert_eq!(notes.line(b"one", b"hello!", now).number, 1, "another message");
        assert_eq!(notes.line(b"one", b"hello", now).number, 7);
        assert_eq!(notes.line(b"one", b"hello", now).number, 1, "it is used up");
        assert!(notes.0.is_empty());
    }

    #[test]
    fn notes_without_a_message_are_forgotten() {
        let mut notes = Notes::default();
        let now = Instant::now();
        for number in 0..1000 {
            notes.add(b"one", &Note::of(format!("m{number}").as_bytes(), at(2)).text(), now);
        }
        assert_eq!(notes.0.get(b"one".as_slice()).map(VecDeque::len), Some(KEPT_MAX));
        assert_eq!(notes.line(b"one", b"m0", now).number, 1);
        assert_eq!(notes.line(b"one", b"m999", now).number, 2);
        assert_eq!(notes.line(b"one", b"m998", now + KEPT).number, 1);
        assert!(notes.0.is_empty());
    }

    #[test]
    fn long_messages_are_distinguished_by_their_length_too() {
        let (long, line) = (vec![0; LOOKED_AT * 2], at(9));
        assert_ne!(Note::of(&long, line), Note::of(&long[1..], line));
        assert_eq!(Note::read(&Note::of(&long, line).text()), Some(Note::of(&long, line)));
    }
}
