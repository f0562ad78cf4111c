//! Two more versions of wasi:keyvalue: 0.2.0-draft, whose numbers are unsigned, and Spin's `get-many`, which has another
//! type under the same version 0.2.0-draft2.

use wasmtime::component::Resource;

use super::guest::Guest;
use super::keyvalue::Bucket;
use super::keyvalue::bindings::wasi::keyvalue::{atomics, batch, store as wit};
use super::meter::NO_MEMORY;
use crate::store::Value;

pub(super) mod draft {
    //! Generated from `wit/wasi-keyvalue-0.2.0-draft`.
    wasmtime::component::bindgen!({
        path: "wit/wasi-keyvalue-0.2.0-draft",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store.bucket": super::super::keyvalue::Bucket },
        require_store_data_send: true,
    });
}

pub(super) mod of_spin {
    //! Generated from `wit/wasi-keyvalue-0.2.0-draft2-spin`.
    wasmtime::component::bindgen!({
        path: "wit/wasi-keyvalue-0.2.0-draft2-spin",
        world: "imports",
        imports: { default: async | trappable },
        with: { "wasi:keyvalue/store": super::super::keyvalue::bindings::wasi::keyvalue::store },
        require_store_data_send: true,
    });
}

use draft::wasi::keyvalue::{atomics as draft_atomics, batch as draft_batch, store as draft_wit};
use of_spin::wasi::keyvalue::batch as spin_batch;

impl From<wit::Error> for draft_wit::Error {
    fn from(error: wit::Error) -> Self {
        match error {
            wit::Error::NoSuchStore => Self::NoSuchStore,
            wit::Error::AccessDenied => Self::AccessDenied,
            wit::Error::Other(text) => Self::Other(text),
        }
    }
}

type Answer<T> = wasmtime::Result<Result<T, draft_wit::Error>>;

impl draft_wit::Host for Guest {
    async fn open(&mut self, name: String) -> Answer<Resource<Bucket>> {
        Ok(wit::Host::open(self, name).await?.map_err(Into::into))
    }
}

impl draft_wit::HostBucket for Guest {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Value>> {
        Ok(wit::HostBucket::get(self, bucket, key).await?.map_err(Into::into))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Value) -> Answer<()> {
        Ok(wit::HostBucket::set(self, bucket, key, value).await?.map_err(Into::into))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        Ok(wit::HostBucket::delete(self, bucket, key).await?.map_err(Into::into))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        Ok(wit::HostBucket::exists(self, bucket, key).await?.map_err(Into::into))
    }

    async fn list_keys(&mut self, bucket: Resource<Bucket>, cursor: Option<u64>) -> Answer<draft_wit::KeyResponse> {
        let cursor = cursor.map(|number| self.stores.cursors.text(number));
        let page = match wit::HostBucket::list_keys(self, bucket, cursor).await? {
            Ok(page) => page,
            Err(error) => return Ok(Err(error.into())),
        };
        let cursor = page.cursor.map(|cursor| self.stores.cursors.number(cursor));
        if !self.stores.cursors.count(&self.meter) {
            return Ok(Err(draft_wit::Error::Other(NO_MEMORY.to_owned())));
        }
        Ok(Ok(draft_wit::KeyResponse { keys: page.keys, cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        wit::HostBucket::drop(self, bucket).await
    }
}

impl draft_atomics::Host for Guest {
    async fn increment(&mut self, bucket: Resource<Bucket>, key: String, delta: u64) -> Answer<u64> {
        let not_that = || draft_wit::Error::Other("wrong-type: the sum is not a number from 0 to 2^63 - 1".to_owned());
        let Ok(delta) = i64::try_from(delta) else { return Ok(Err(not_that())) };
        let sum = atomics::Host::increment(self, bucket, key, delta).await?;
        Ok(sum.map_err(Into::into).and_then(|sum| u64::try_from(sum).map_err(|_below_zero| not_that())))
    }
}

impl draft_batch::Host for Guest {
    async fn get_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<Vec<Option<(String, Value)>>> {
        Ok(batch::Host::get_many(self, bucket, keys).await?.map_err(Into::into))
    }

    async fn set_many(&mut self, bucket: Resource<Bucket>, pairs: Vec<(String, Value)>) -> Answer<()> {
        Ok(batch::Host::set_many(self, bucket, pairs).await?.map_err(Into::into))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        Ok(batch::Host::delete_many(self, bucket, keys).await?.map_err(Into::into))
    }
}

impl spin_batch::Host for Guest {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<Vec<(String, Option<Value>)>, wit::Error>> {
        let names = keys.clone();
        let found = batch::Host::get_many(self, bucket, keys).await?;
        Ok(found.map(|found| names.into_iter().zip(found.into_iter().map(|pair| Some(pair?.1))).collect()))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        pairs: Vec<(String, Value)>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        batch::Host::set_many(self, bucket, pairs).await
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> wasmtime::Result<Result<(), wit::Error>> {
        batch::Host::delete_many(self, bucket, keys).await
    }
}
