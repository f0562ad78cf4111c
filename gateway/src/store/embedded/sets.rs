//! The stored form of sets: an `S`, then each member after its length (four bytes, little-endian), in order. Each operation
//! is one pass from beginning to end, and members that are not needed are not copied.

use std::collections::BTreeSet;

use super::entries::{Kind, View};
use super::raw::wrong_type;
use super::readers::Read;
use super::{Result, SLICE};
use crate::store::layout::Bucket;
use crate::store::{Error, Reply};

/// A changed set in its stored form, and its number of members.
pub(super) struct Changed {
    pub(super) bytes: Vec<u8>,
    pub(super) members: usize,
}

/// The members, in order.
pub(super) struct Members<'s>(&'s [u8]);

impl<'s> Members<'s> {
    /// The members of a value. An empty value is an empty set.
    pub(super) fn of(value: &'s [u8]) -> Self {
        Self(value.get(1..).unwrap_or_default())
    }
}

impl<'s> Iterator for Members<'s> {
    type Item = Result<&'s [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        match rest.split_at_checked(u32::from_le_bytes(*length) as usize) {
            Some((member, rest)) => {
                self.0 = rest;
                Some(Ok(member))
            }
            None => {
                self.0 = &[];
                Some(Err(Error::Internal))
            }
        }
    }
}

struct Writer(Changed);

impl Writer {
    fn new(room: usize) -> Self {
        let mut bytes = Vec::with_capacity(room + 1);
        bytes.push(b'S');
        Self(Changed { bytes, members: 0 })
    }

    fn add(&mut self, member: &[u8]) -> Result<()> {
        let length = u32::try_from(member.len()).map_err(|_too_long| Error::Internal)?;
        self.0.bytes.extend(length.to_le_bytes());
        self.0.bytes.extend(member);
        self.0.members += 1;
        Ok(())
    }
}

/// The set with these members added.
pub(super) fn with(value: &[u8], more: &BTreeSet<&[u8]>) -> Result<Changed> {
    let room = value.len() + more.iter().map(|member| member.len() + 4).sum::<usize>();
    let mut writer = Writer::new(room);
    let mut more = more.iter().copied().peekable();
    for member in Members::of(value) {
        let member = member?;
        while let Some(new) = more.next_if(|new| *new < member) {
            writer.add(new)?;
        }
        let _same = more.next_if(|new| *new == member);
        writer.add(member)?;
    }
    more.try_for_each(|new| writer.add(new))?;
    Ok(writer.0)
}

/// The set without these members.
pub(super) fn without(value: &[u8], gone: &BTreeSet<&[u8]>) -> Result<Changed> {
    let mut writer = Writer::new(value.len());
    let mut gone = gone.iter().copied().peekable();
    for member in Members::of(value) {
        let member = member?;
        while gone.next_if(|gone| *gone < member).is_some() {}
        if gone.peek() != Some(&member) {
            writer.add(member)?;
        }
    }
    Ok(writer.0)
}

pub(super) fn has(value: &[u8], wanted: &[u8]) -> Result<bool> {
    for member in Members::of(value) {
        match member?.cmp(wanted) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Ok(true),
            std::cmp::Ordering::Greater => return Ok(false),
        }
    }
    Ok(false)
}

/// The price of a member in an answer, beside its bytes.
const MEMBER_PRICE: usize = 40;

/// Lists all members of a large set, in slices.
pub(super) struct Listing {
    bucket: Bucket,
    key: Vec<u8>,
    /// The set, how much of it is listed, and the list.
    set: Option<Vec<u8>>,
    at: usize,
    told: Vec<Reply>,
}

impl Listing {
    pub(super) fn of(bucket: &Bucket, key: &[u8]) -> Self {
        Self { bucket: bucket.clone(), key: key.to_vec(), set: None, at: 0, told: Vec::new() }
    }
}

impl Read for Listing {
    type Answer = Vec<Reply>;

    fn step(&mut self, view: &mut View) -> Result<Option<Self::Answer>> {
        let Some(set) = &self.set else {
            let Some(entry) = view.look(&self.bucket, &self.key)? else { return Ok(Some(Vec::new())) };
            if entry.head.kind != Kind::Set {
                return Err(wrong_type());
            }
            self.told.reserve_exact(entry.head.members as usize);
            self.set = Some(view.value(&entry, 1)?);
            return Ok(None);
        };
        let mut members = Members(set.get(self.at..).unwrap_or_default());
        while let Some(member) = members.next() {
            let member = member?;
            view.price += member.len() + MEMBER_PRICE;
            self.told.push(Reply::Bytes(member.to_vec()));
            if view.price >= SLICE {
                self.at = set.len() - members.0.len();
                return Ok(None);
            }
        }
        Ok(Some(std::mem::take(&mut self.told)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
        proptest::collection::btree_set(proptest::collection::vec(0..3u8, 0..3), 0..9)
    }

    fn list(value: &[u8]) -> BTreeSet<Vec<u8>> {
        Members::of(value).map(|member| member.unwrap().to_vec()).collect()
    }

    fn refs(set: &BTreeSet<Vec<u8>>) -> BTreeSet<&[u8]> {
        set.iter().map(Vec::as_slice).collect()
    }

    proptest! {
        #[test]
        fn a_set_behaves_as_a_set(a in members(), b in members(), one in proptest::collection::vec(0..3u8, 0..3)) {
            let kept = with(b"", &refs(&a)).unwrap();
            prop_assert_eq!(list(&kept.bytes), a.clone());
            prop_assert_eq!(kept.members, a.len());
            let both = with(&kept.bytes, &refs(&b)).unwrap();
            prop_assert_eq!(list(&both.bytes), a.union(&b).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(both.members, list(&both.bytes).len());
            let less = without(&kept.bytes, &refs(&b)).unwrap();
            prop_assert_eq!(list(&less.bytes), a.difference(&b).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(has(&kept.bytes, &one).unwrap(), a.contains(&one));
        }
    }

    #[test]
    fn a_value_that_is_not_a_set_is_an_error_and_not_read_beyond_its_end() {
        assert_eq!(Members::of(b"S\xff\0\0\0ab").next(), Some(Err(Error::Internal)));
        assert_eq!(Members::of(b"").next(), None);
    }
}
