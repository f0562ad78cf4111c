//! What becomes of a server's answer: flat, with the guest's own names for its keys, and of a scan only what was asked for.

use super::options::Scan;
use super::table::Names;
use super::{Error, Prepared, Result, redis};

/// A piece of an answer; what is nested is told flat, as `fermyon:spin/redis` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Status(String),
    Int(i64),
    Bytes(Vec<u8>),
}

/// What a command answered, and how much work that was: elements gone through, beside what it carried.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) replies: Vec<Reply>,
    pub(crate) work: u64,
}

impl Answered {
    /// What the replies hold.
    pub(in crate::store) fn bytes(&self) -> usize {
        let bytes = |reply: &Reply| match reply {
            Reply::Nil | Reply::Int(_) => 0,
            Reply::Status(text) => text.len(),
            Reply::Bytes(bytes) => bytes.len(),
        };
        self.replies.iter().map(bytes).sum()
    }
}

impl Prepared {
    /// A text of the server's, without the prefix.
    pub(in crate::store) fn without_prefix(&self, text: &str) -> String {
        text.replace(&*String::from_utf8_lossy(self.inside.as_bytes()), "")
    }

    /// What of a scan's answer its pattern is of; and how much work it was to find out.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where that is too much.
    pub(in crate::store) fn sift(&self, value: redis::Value) -> Result<(redis::Value, u64)> {
        let Some(pattern) = &self.pattern else { return Ok((value, 0)) };
        let redis::Value::Array(mut page) = value else { return Err(Error::Internal) };
        let Some(redis::Value::Array(found)) = page.pop() else { return Err(Error::Internal) };
        // A name and what it has, or a name.
        let arguments = self.words.get(1..).unwrap_or_default();
        let has_values = self.rule.name != "SSCAN" && Scan::parse(arguments).is_some_and(|scan| !scan.no_values);
        let (mut steps, mut kept, mut found) = (0, Vec::new(), found.into_iter());
        while let Some(name) = found.next() {
            let value = if has_values { found.next() } else { None };
            if let redis::Value::BulkString(bytes) = &name
                && pattern.is_of(bytes, &mut steps)?
            {
                kept.push(name);
                kept.extend(value);
            }
        }
        page.push(redis::Value::Array(kept));
        Ok((redis::Value::Array(page), steps))
    }

    /// What the answer is to the guest: flat, and with its own names for its keys.
    pub(in crate::store) fn answer(&self, value: redis::Value) -> Vec<Reply> {
        let mut flat = Vec::new();
        match (self.rule.names, value) {
            (Names::First, redis::Value::Array(elements)) => self.named(elements, &mut flat),
            (Names::FirstOfEach, redis::Value::Array(elements)) => {
                for element in elements {
                    match element {
                        redis::Value::Array(elements) => self.named(elements, &mut flat),
                        other => flatten(other, &mut flat),
                    }
                }
            }
            (_, value) => flatten(value, &mut flat),
        }
        flat
    }

    /// A key, and what is there.
    fn named(&self, elements: Vec<redis::Value>, flat: &mut Vec<Reply>) {
        for (at, element) in elements.into_iter().enumerate() {
            match element {
                redis::Value::BulkString(key) if at == 0 => {
                    let own = key.strip_prefix(self.inside.as_bytes()).unwrap_or_default();
                    flat.push(Reply::Bytes(own.to_vec()));
                }
                other => flatten(other, flat),
            }
        }
    }
}

fn flatten(value: redis::Value, flat: &mut Vec<Reply>) {
    match value {
        redis::Value::Nil => flat.push(Reply::Nil),
        redis::Value::Int(number) => flat.push(Reply::Int(number)),
        redis::Value::BulkString(bytes) => flat.push(Reply::Bytes(bytes)),
        redis::Value::SimpleString(text) => flat.push(Reply::Status(text)),
        redis::Value::Okay => flat.push(Reply::Status("OK".to_owned())),
        redis::Value::Array(elements) | redis::Value::Set(elements) => {
            elements.into_iter().for_each(|element| flatten(element, flat));
        }
        redis::Value::Boolean(truth) => flat.push(Reply::Int(truth.into())),
        redis::Value::Double(number) => flat.push(Reply::Bytes(number.to_string().into_bytes())),
        // RESP2 has none of the others.
        other => flat.push(Reply::Status(format!("{other:?}"))),
    }
}
