//! wasi:keyvalue 0.2.0-draft2: store, atomics and batch, over the tenant's scoped stores.
//!
//! Security: `open` looks a name up among the component's grants. No call of a guest contains a tenant.

use wasmtime::component::Resource;

use super::guest::Guest;
use super::meter::NO_MEMORY;
use super::priced::of_bytes;
use super::table::Retains;
use crate::fault::QuotaKind;
use crate::store::{self, Raw, Scoped, Value};
use crate::tenant::cost;

pub(super) mod bindings {
    //! Generated from `wit/wasi-keyvalue-0.2.0-draft2`.
    wasmtime::component::bindgen!({
        path: "wit/wasi-keyvalue-0.2.0-draft2",
        world: "imports",
        imports: { default: async | trappable },
        with: {
            "wasi:keyvalue/store.bucket": super::Bucket,
            "wasi:keyvalue/atomics.cas": super::Cas,
        },
        require_store_data_send: true,
    });
}

use bindings::wasi::keyvalue::{atomics, batch, store as wit};

type Answer<T> = wasmtime::Result<Result<T, wit::Error>>;

/// An open store.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Bucket(Scoped);

impl Retains for Bucket {
    /// Names of bounded length, behind pointers.
    fn retained(&self) -> u64 {
        0
    }
}

/// A value at the time when it was read.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Cas {
    scoped: Scoped,
    key: String,
    seen: Option<Value>,
}

impl Retains for Cas {
    fn retained(&self) -> u64 {
        (self.key.capacity() + self.seen.as_ref().map_or(0, Vec::capacity)) as u64
    }
}

impl Guest {
    /// Opens a store, if the component has a grant for it.
    pub(super) fn open_by_name(&mut self, name: &str) -> Option<Scoped> {
        self.charge(cost::STORE_OPENED.saturating_add(of_bytes(name.len())));
        self.stores.open(name)
    }

    /// The tenant's raw keys, if the component has a grant for this address.
    pub(super) fn redis(&mut self, address: &str) -> Option<Raw> {
        self.charge(cost::STORE_OPENED.saturating_add(of_bytes(address.len())));
        self.stores.redis(address)
    }

    /// Counts operations and their bytes against the request's limit and the tenant's quotas, and charges their fuel. An
    /// empty batch is one operation.
    pub(super) fn spend(&mut self, ops: usize, bytes: usize) -> Result<(), String> {
        let (ops, bytes) = (ops.max(1) as u64, bytes as u64);
        // They were lifted, even if the call is refused below.
        self.charge(ops.saturating_mul(cost::CARRIED_TEXT).saturating_add(bytes / cost::STORAGE_BYTES_A_UNIT));
        let before = self.record.storage_op(ops);
        let max = self.stores.ops_max;
        let has_room = before.saturating_add(ops) <= max && self.budget.take_storage_ops(ops);
        if !has_room {
            return Err(format!("quota-exceeded: storage_ops {max}"));
        }
        if let Err(quota) = self.ledger.store(ops, bytes) {
            self.record.quota_refused(quota);
            return Err(format!("quota-exceeded: {}", quota.name()));
        }
        self.charge(ops.saturating_mul(cost::STORAGE_OP));
        Ok(())
    }

    /// The store behind a handle, after its operations are paid.
    fn bucket(&mut self, bucket: &Resource<Bucket>, ops: usize, bytes: usize) -> Answer<Scoped> {
        let scoped = self.table.get(bucket)?.0.clone();
        Ok(self.spend(ops, bytes).map(|()| scoped).map_err(wit::Error::Other))
    }

    /// Charges the bytes of an answer.
    pub(super) fn brought(&mut self, bytes: usize) {
        self.ledger.stored(bytes as u64);
        self.charge(bytes as u64 / cost::STORAGE_BYTES_A_UNIT);
    }

    /// Charges a page of keys.
    pub(super) fn brought_keys(&mut self, keys: &[Vec<u8>]) {
        self.brought(keys.iter().map(Vec::len).sum());
        self.charge((keys.len() as u64).saturating_mul(cost::CARRIED_TEXT));
    }
}

/// Returns the guest's error if the inner result is one.
macro_rules! granted {
    ($answer:expr) => {
        match $answer {
            Ok(value) => value,
            Err(error) => return Ok(Err(error)),
        }
    };
}

impl Guest {
    fn told(&self, error: store::Error) -> wit::Error {
        wit::Error::Other(self.refused(error).to_string())
    }

    /// Counts refusals by the tenant's quota.
    pub(super) fn refused(&self, error: store::Error) -> store::Error {
        if let store::Error::OverQuota(_) = error {
            self.record.quota_refused(QuotaKind::Storage);
        }
        error
    }
}

impl wit::Host for Guest {
    async fn open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        match self.open_by_name(&name) {
            Some(scoped) => Ok(self.table.put(Bucket(scoped)).map_err(|_full| wit::Error::Other(NO_MEMORY.to_owned()))),
            None => Ok(Err(wit::Error::AccessDenied)),
        }
    }
}

impl wit::HostBucket for Guest {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Value>> {
        let scoped = granted!(self.bucket(&bucket, 1, key.len())?);
        let value = granted!(scoped.get(key.as_bytes()).await.map_err(|error| self.told(error)));
        self.brought(value.as_ref().map_or(0, Vec::len));
        Ok(Ok(value))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Value) -> Answer<()> {
        let scoped = granted!(self.bucket(&bucket, 1, key.len() + value.len())?);
        Ok(scoped.set_many(vec![(key.into_bytes(), value)]).await.map_err(|error| self.told(error)))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let scoped = granted!(self.bucket(&bucket, 1, key.len())?);
        Ok(scoped.delete_many(vec![key.into_bytes()]).await.map_err(|error| self.told(error)))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let scoped = granted!(self.bucket(&bucket, 1, key.len())?);
        Ok(scoped.exists(key.as_bytes()).await.map_err(|error| self.told(error)))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<String>) -> Answer<wit::KeyResponse> {
        let scoped = granted!(self.bucket(&bucket, 1, cursor.as_ref().map_or(0, String::len))?);
        let page = granted!(scoped.list(cursor.as_deref()).await.map_err(|error| self.told(error)));
        self.brought_keys(&page.keys);
        Ok(Ok(wit::KeyResponse {
            // Keys are texts in this interface. A key that another interface wrote as bytes is not visible here.
            keys: page.keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect(),
            cursor: page.cursor,
        }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.take(bucket)?;
        Ok(())
    }
}

impl atomics::Host for Guest {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: i64) -> Answer<i64> {
        let scoped = granted!(self.bucket(&bucket, 1, key.len())?);
        Ok(scoped.increment(key.as_bytes(), delta).await.map_err(|error| self.told(error)))
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Value) -> wasmtime::Result<Result<(), atomics::CasError>> {
        let Cas { scoped, key, seen } = self.table.take(cas)?;
        if let Err(error) = self.spend(1, key.len() + value.len()) {
            return Ok(Err(atomics::CasError::StoreError(wit::Error::Other(error))));
        }
        match scoped.swap(key.as_bytes(), seen, value).await {
            Ok(true) => Ok(Ok(())),
            Err(error) => Ok(Err(atomics::CasError::StoreError(self.told(error)))),
            // The proposal wants a new CAS handle, with the present value.
            Ok(false) => match self.look(scoped, key).await? {
                Ok(fresh) => Ok(Err(atomics::CasError::CasFailed(fresh))),
                Err(error) => Ok(Err(atomics::CasError::StoreError(error))),
            },
        }
    }
}

impl Guest {
    async fn look(&mut self, scoped: Scoped, key: String) -> Answer<Resource<Cas>> {
        granted!(self.spend(1, key.len()).map_err(wit::Error::Other));
        match scoped.get(key.as_bytes()).await {
            Ok(seen) => {
                self.brought(seen.as_ref().map_or(0, Vec::len));
                let cas = self.table.put(Cas { scoped, key, seen });
                Ok(cas.map_err(|_full| wit::Error::Other(NO_MEMORY.to_owned())))
            }
            Err(error) => Ok(Err(self.told(error))),
        }
    }
}

impl atomics::HostCas for Guest {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let scoped = self.table.get(&bucket)?.0.clone();
        self.look(scoped, key).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Value>> {
        let seen = self.table.get(&cas)?.seen.clone();
        self.charge(seen.as_ref().map_or(0, |value| of_bytes(value.len())));
        Ok(Ok(seen))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.take(cas)?;
        Ok(())
    }
}

fn bytes_of(keys: &[String]) -> usize {
    keys.iter().map(String::len).sum()
}

impl batch::Host for Guest {
    async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<Vec<Option<(String, Value)>>> {
        let scoped = granted!(self.bucket(&bucket, keys.len().max(1), bytes_of(&keys))?);
        let bytes: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let values = granted!(scoped.get_many(&bytes).await.map_err(|error| self.told(error)));
        self.brought(values.iter().flatten().map(Vec::len).sum());
        Ok(Ok(keys.into_iter().zip(values).map(|(key, value)| Some((key, value?))).collect()))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Value)>) -> Answer<()> {
        let bytes = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let scoped = granted!(self.bucket(&bucket, pairs.len().max(1), bytes)?);
        let pairs = pairs.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect();
        Ok(scoped.set_many(pairs).await.map_err(|error| self.told(error)))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let scoped = granted!(self.bucket(&bucket, keys.len().max(1), bytes_of(&keys))?);
        Ok(scoped
            .delete_many(keys.into_iter().map(String::into_bytes).collect())
            .await
            .map_err(|error| self.told(error)))
    }
}
