//! Lists what a tenant has by name, and deletes it.

use std::ops::Bound;

use super::entries::{KEY_PRICE, View};
use super::{Embedded, from_hex, internal, list, to_hex};
use crate::store::account::Account;
use crate::store::layout::{Bucket, owner};
use crate::store::names::{Name, Names};
use crate::store::{BATCH_MAX, Error, Result, Write};

impl Embedded {
    /// The cursor is where the previous page ended: bucket and key in hexadecimal.
    pub(in crate::store) async fn names(&self, prefix: Vec<u8>, cursor: Option<&str>) -> Result<Names> {
        let place = |cursor: &str| {
            let (bucket, key) = cursor.split_once(':')?;
            let bucket = from_hex(bucket).filter(|bucket| bucket.starts_with(&prefix))?;
            Some((bucket, from_hex(key)?))
        };
        let after = cursor.map(|cursor| place(cursor).ok_or(Error::BadCursor)).transpose()?;
        let of = owner(&prefix).to_vec();
        self.readers.once(&of, move |view| names(view, &prefix, after)).await
    }

    /// Deletes one batch of the tenant's keys in the bucket, or in the first bucket that it has.
    pub(in crate::store) async fn purge(
        &self,
        account: &Account,
        prefix: Vec<u8>,
        only: Option<Bucket>,
    ) -> Result<Option<u64>> {
        let bucket = match only {
            Some(bucket) => Some(bucket),
            None => {
                let of = owner(&prefix).to_vec();
                self.readers.once(&of, move |view| first_bucket(view, &prefix)).await?
            }
        };
        let Some(bucket) = bucket else { return Ok(None) };
        let of = bucket.clone();
        let keys = self.readers.once(bucket.owner(), move |view| Ok(list(view, &of, None)?.keys)).await?;
        let removed = keys.len() as u64;
        if removed == 0 {
            return Ok(None);
        }
        self.write(account, &bucket, Write::Delete(keys)).await?;
        Ok(Some(removed))
    }
}

/// A key of the table of entries.
type Place = (Vec<u8>, Vec<u8>);

pub(super) fn first_bucket(view: &mut View, prefix: &[u8]) -> Result<Option<Bucket>> {
    let start: (&[u8], &[u8]) = (prefix, &[]);
    let Some(first) = view.entries.range(start..).map_err(internal)?.next() else { return Ok(None) };
    let (place, _entry) = first.map_err(internal)?;
    let (bucket, _) = place.value();
    Ok(Bucket::found(bucket, prefix))
}

fn names(view: &mut View, prefix: &[u8], after: Option<Place>) -> Result<Names> {
    let mut found = Names::default();
    let mut at: Place = after.unwrap_or_else(|| (prefix.to_vec(), Vec::new()));
    loop {
        let start: (&[u8], &[u8]) = (&at.0, &at.1);
        view.price += KEY_PRICE;
        let Some(next) = view.entries.range((Bound::Excluded(start), Bound::Unbounded)).map_err(internal)?.next()
        else {
            return Ok(found);
        };
        let (place, _entry) = next.map_err(internal)?;
        let (bucket, key) = place.value();
        let Some(rest) = bucket.strip_prefix(prefix) else { return Ok(found) };
        // A store is one name, and the search continues after its last key; each raw key is one name.
        if rest == b"r:" {
            found.names.push(Name::Raw(key.to_vec()));
            at = (bucket.to_vec(), key.to_vec());
        } else {
            found.names.extend(Name::parse(rest));
            at = ([bucket, &[0]].concat(), Vec::new());
        }
        if found.names.len() == BATCH_MAX {
            found.cursor = Some(format!("{}:{}", to_hex(&at.0), to_hex(&at.1)));
            return Ok(found);
        }
    }
}
