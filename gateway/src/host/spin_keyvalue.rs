//! fermyon:spin/key-value, of Spin 1 and 2.0.0, over the tenant's scoped stores.

use wasmtime::component::Resource;

use super::guest::Guest;
use super::priced::of_bytes;
use super::spin::one::fermyon::spin::key_value as one;
use super::spin::two::fermyon::spin::key_value as two;
use super::table::{Full, Retains};
use crate::store::{Scoped, Value};

/// An open store.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct OpenStore(pub(super) Scoped);

impl Retains for OpenStore {
    /// Names of bounded length, behind pointers.
    fn retained(&self) -> u64 {
        0
    }
}

type Answer<T, E> = wasmtime::Result<Result<T, E>>;

impl Guest {
    /// # Errors
    /// The table of handles is full. The inner `None` means that there is no such store.
    pub(super) fn open_store(&mut self, label: &str) -> Result<Option<Resource<OpenStore>>, Full> {
        self.open_by_name(label).map(|scoped| self.table.put(OpenStore(scoped))).transpose()
    }
}

impl two::Host for Guest {}

fn two_error(failed: super::spin::Failed) -> two::Error {
    two::Error::Other(failed.text())
}

impl two::HostStore for Guest {
    async fn open(&mut self, label: String) -> Answer<Resource<OpenStore>, two::Error> {
        Ok(match self.open_store(&label) {
            Ok(Some(store)) => Ok(store),
            Ok(None) => Err(two::Error::AccessDenied),
            Err(_full) => Err(two::Error::StoreTableFull),
        })
    }

    async fn get(&mut self, store: Resource<OpenStore>, key: String) -> Answer<Option<Value>, two::Error> {
        let scoped = self.table.get(&store)?.0.clone();
        Ok(self.value(&scoped, &key).await.map_err(two_error))
    }

    async fn set(&mut self, store: Resource<OpenStore>, key: String, value: Value) -> Answer<(), two::Error> {
        let scoped = self.table.get(&store)?.0.clone();
        Ok(self.put(&scoped, key, value).await.map_err(two_error))
    }

    async fn delete(&mut self, store: Resource<OpenStore>, key: String) -> Answer<(), two::Error> {
        let scoped = self.table.get(&store)?.0.clone();
        Ok(self.remove(&scoped, key).await.map_err(two_error))
    }

    async fn exists(&mut self, store: Resource<OpenStore>, key: String) -> Answer<bool, two::Error> {
        let scoped = self.table.get(&store)?.0.clone();
        Ok(self.holds(&scoped, &key).await.map_err(two_error))
    }

    async fn get_keys(&mut self, store: Resource<OpenStore>) -> Answer<Vec<String>, two::Error> {
        let scoped = self.table.get(&store)?.0.clone();
        Ok(self.all_keys(&scoped).await.map_err(two_error))
    }

    async fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.take(store)?;
        Ok(())
    }
}

fn one_error(failed: super::spin::Failed) -> one::Error {
    one::Error::Io(failed.text())
}

impl Guest {
    /// Spin 1's handles are plain numbers, which a guest may invent. An invalid number is an error, and what the call
    /// carried is charged.
    fn store_of(&mut self, handle: u32, bytes: usize) -> Result<Scoped, one::Error> {
        let open = self.table.get(&Resource::<OpenStore>::new_borrow(handle)).map(|store| store.0.clone());
        open.map_err(|_not_one| {
            self.charge(of_bytes(bytes));
            one::Error::InvalidStore
        })
    }
}

macro_rules! store_of {
    ($guest:expr, $handle:expr, $bytes:expr) => {
        match $guest.store_of($handle, $bytes) {
            Ok(scoped) => scoped,
            Err(error) => return Ok(Err(error)),
        }
    };
}

impl one::Host for Guest {
    async fn open(&mut self, name: String) -> Answer<u32, one::Error> {
        Ok(match self.open_store(&name) {
            Ok(Some(store)) => Ok(store.rep()),
            Ok(None) => Err(one::Error::AccessDenied),
            Err(_full) => Err(one::Error::StoreTableFull),
        })
    }

    async fn get(&mut self, store: u32, key: String) -> Answer<Value, one::Error> {
        let scoped = store_of!(self, store, key.len());
        let value = self.value(&scoped, &key).await.map_err(one_error);
        Ok(value.and_then(|value| value.ok_or(one::Error::NoSuchKey)))
    }

    async fn set(&mut self, store: u32, key: String, value: Value) -> Answer<(), one::Error> {
        let scoped = store_of!(self, store, key.len().saturating_add(value.len()));
        Ok(self.put(&scoped, key, value).await.map_err(one_error))
    }

    async fn delete(&mut self, store: u32, key: String) -> Answer<(), one::Error> {
        let scoped = store_of!(self, store, key.len());
        Ok(self.remove(&scoped, key).await.map_err(one_error))
    }

    async fn exists(&mut self, store: u32, key: String) -> Answer<bool, one::Error> {
        let scoped = store_of!(self, store, key.len());
        Ok(self.holds(&scoped, &key).await.map_err(one_error))
    }

    async fn get_keys(&mut self, store: u32) -> Answer<Vec<String>, one::Error> {
        let scoped = store_of!(self, store, 0);
        Ok(self.all_keys(&scoped).await.map_err(one_error))
    }

    async fn close(&mut self, store: u32) -> wasmtime::Result<()> {
        // Closing an invalid handle has no effect.
        let _not_one = self.table.take(Resource::<OpenStore>::new_own(store));
        Ok(())
    }
}
