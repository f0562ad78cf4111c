//! Commands of a tenant with several shards. If all keys are in one shard, the command goes there unchanged. Others are
//! served only if they can be executed key by key.
//!
//! Security: the parts are words of the guest and not yet prepared; each passes through [`super::prepare`] for its own
//! shard.

use std::collections::BTreeMap;

use super::table::{self, Keys};
use super::{Error, Reply, Result, Words, check_sizes, keys, printable, refused};

/// The part for one shard.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Part {
    pub(in crate::store) shard: u16,
    pub(in crate::store) arguments: Words,
    /// Which elements of the complete answer these are.
    places: Vec<usize>,
}

/// How the answers of the parts are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Joined {
    Sum,
    InOrder,
    /// Each is OK.
    Done,
}

/// Splits a command, and says how to combine the answers.
///
/// # Errors
/// As for [`super::prepare`], and [`Error::Refused`] if the keys are in several shards and the command is one step.
pub(in crate::store) fn split(
    name: &[u8],
    arguments: &[Vec<u8>],
    shard_of: impl Fn(&[u8]) -> u16,
) -> Result<(Vec<Part>, Joined)> {
    let name = printable(name);
    let Some(rule) = table::find(&name) else { return Err(refused(&name, super::effects::why_not(&name))) };
    check_sizes(arguments)?;
    let mut places: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for at in keys(rule, arguments)? {
        let shard = shard_of(arguments.get(at).map_or(&[], Vec::as_slice));
        places.entry(shard).or_default().push(at);
    }
    if places.len() == 1 {
        let parts = places.into_iter().map(|(shard, places)| Part { shard, arguments: arguments.to_vec(), places });
        return Ok((parts.collect(), Joined::InOrder));
    }
    let joined = match rule.name {
        "DEL" | "UNLINK" | "EXISTS" | "TOUCH" => Joined::Sum,
        "MGET" => Joined::InOrder,
        "MSET" => Joined::Done,
        _ => {
            let why = "its keys are in several shards (quota.shards); what they have in braces keeps keys together";
            return Err(refused(rule.name, why));
        }
    };
    // Each key is followed by its value.
    let each = if rule.keys == Keys::Alternate { 2 } else { 1 };
    let part = |(shard, places): (u16, Vec<usize>)| {
        let words = places.iter().flat_map(|&at| arguments.get(at..at + each).unwrap_or_default());
        Part { shard, arguments: words.cloned().collect(), places }
    };
    Ok((places.into_iter().map(part).collect(), joined))
}

/// Combines several answers, each with its part.
pub(in crate::store) fn join(joined: Joined, answers: Vec<(Part, Vec<Reply>)>) -> Result<Vec<Reply>> {
    match joined {
        Joined::Done => Ok(vec![Reply::Status("OK".to_owned())]),
        Joined::Sum => {
            let counts = answers.iter().flat_map(|(_, replies)| replies);
            let counts = counts.map(|reply| if let Reply::Int(count) = reply { *count } else { 0 });
            Ok(vec![Reply::Int(counts.sum())])
        }
        Joined::InOrder => {
            let mut elements: BTreeMap<usize, Reply> = BTreeMap::new();
            for (part, replies) in answers {
                if part.places.len() != replies.len() {
                    return Err(Error::Internal);
                }
                elements.extend(part.places.into_iter().zip(replies));
            }
            Ok(elements.into_values().collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chooses the shard by the last letter.
    fn shard_of(key: &[u8]) -> u16 {
        key.last().copied().unwrap_or_default().into()
    }

    fn words(text: &str) -> Words {
        text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn bytes(text: &str) -> Reply {
        Reply::Bytes(text.as_bytes().to_vec())
    }

    #[test]
    fn a_command_on_separate_keys_is_split_and_its_answers_are_joined() {
        let (parts, joined) = split(b"mset", &words("1a x 2b y 3a z"), shard_of).unwrap();
        let sent: Vec<_> = parts.iter().map(|part| part.arguments.clone()).collect();
        assert_eq!((sent, joined), (vec![words("1a x 3a z"), words("2b y")], Joined::Done));
        let (parts, joined) = split(b"MGET", &words("1b 2a 3b"), shard_of).unwrap();
        let answers = [vec![bytes("2")], vec![bytes("1"), Reply::Nil]];
        let answers = parts.into_iter().zip(answers).collect();
        assert_eq!(join(joined, answers).unwrap(), [bytes("1"), bytes("2"), Reply::Nil]);
        let (parts, joined) = split(b"DEL", &words("1a 2b 3c"), shard_of).unwrap();
        let answers = parts.into_iter().zip([1, 0, 1]).map(|(part, count)| (part, vec![Reply::Int(count)])).collect();
        assert_eq!(join(joined, answers).unwrap(), [Reply::Int(2)]);
    }

    #[test]
    fn an_atomic_command_is_refused_over_several_shards_and_served_in_one() {
        for command in ["SUNION", "MSETNX", "RENAME", "SMOVE", "PFMERGE", "LMOVE", "BITOP", "ZUNIONSTORE"] {
            let arguments = match command {
                "MSETNX" => "xa 1 xb 2",
                "SMOVE" => "xa xb member",
                "LMOVE" => "xa xb LEFT LEFT",
                "BITOP" => "AND xa xb",
                "ZUNIONSTORE" => "xa 2 xb xc",
                _ => "xa xb",
            };
            let error = split(command.as_bytes(), &words(arguments), shard_of).unwrap_err();
            assert!(error.to_string().starts_with(&format!("refused: {command}: its keys are in several")), "{error}");
            let one = arguments.replace("xb", "ya").replace("xc", "za");
            let (parts, _) = split(command.as_bytes(), &words(&one), shard_of).unwrap();
            assert_eq!(parts.len(), 1, "{command}");
            assert_eq!(parts[0].arguments, words(&one));
        }
        assert!(split(b"KEYS", &words("*"), shard_of).unwrap_err().to_string().starts_with("refused: KEYS"));
    }
}
