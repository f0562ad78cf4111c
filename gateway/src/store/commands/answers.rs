//! Converts a server's answer for the guest: flat, with the guest's own names of keys, and from a scan only the elements
//! that match.

use super::options::Scan;
use super::table::Names;
use super::{Error, Prepared, Result, redis};

/// A part of an answer. Nested parts are flattened, as `fermyon:spin/redis` requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Nil,
    Status(String),
    Int(i64),
    Bytes(Vec<u8>),
}

/// A command's answer, and its work: the elements that were processed, in addition to what it carried.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) replies: Vec<Reply>,
    pub(crate) work: u64,
}

impl Answered {
    /// Bytes in the replies.
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
    /// Removes the prefix from the server's text.
    pub(in crate::store) fn without_prefix(&self, text: &str) -> String {
        text.replace(&*String::from_utf8_lossy(self.inside.as_bytes()), "")
    }

    /// The elements of a scan's answer that match its pattern, and the work of matching.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if that is too much work.
    pub(in crate::store) fn sift(&self, value: redis::Value) -> Result<(redis::Value, u64)> {
        let Some(pattern) = &self.pattern else { return Ok((value, 0)) };
        let redis::Value::Array(mut page) = value else { return Err(Error::Internal) };
        let Some(redis::Value::Array(found)) = page.pop() else { return Err(Error::Internal) };
        // A name with its value, or a name alone.
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

    /// Converts an answer for the guest: flat, with the guest's own names of keys.
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

    /// A key and its contents.
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
        // RESP2 has no other types.
        other => flat.push(Reply::Status(format!("{other:?}"))),
    }
}
