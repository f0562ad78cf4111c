//! spin:key-value and spin:redis 3.0.0: the functions of 2.0.0, but asynchronous, so that a guest may have several calls in
//! progress.
//!
//! Invariant: the guest's state is accessed before and after a store call, and never held across it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::{mpsc, oneshot};
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Accessor, AccessorTask, Destination, FutureReader, HasSelf, Resource, StreamProducer, StreamReader, StreamResult,
    VecBuffer,
};

use super::guest::Guest;
use super::meter::Held;
use super::meter::NO_MEMORY;
use super::spin::{Answer, Failed, arguments, count, members, number, value};
use super::spin_keyvalue::OpenStore;
use super::spin_redis::Connection;
use crate::store::{Raw, Reply, Scoped, Value};

pub(super) mod bindings {
    //! Generated from `wit/spin-3.0.0`.
    wasmtime::component::bindgen!({
        path: "wit/spin-3.0.0",
        world: "imports",
        imports: { default: trappable },
        with: {
            "spin:key-value/key-value.store": super::super::spin_keyvalue::OpenStore,
            "spin:redis/redis.connection": super::super::spin_redis::Connection,
        },
        require_store_data_send: true,
    });
}

use bindings::spin::key_value::key_value as kv;
use bindings::spin::redis::redis;

type At<U> = Accessor<U, HasSelf<Guest>>;
type Told<T, E> = wasmtime::Result<Result<T, E>>;

/// Pages of keys that wait for a guest to read them.
const PAGES_WAITING: usize = 1;

fn kv_error(failed: Failed) -> kv::Error {
    kv::Error::Other(failed.text())
}

/// The store behind a handle, after its operation is paid. What the call carries is counted while it is in progress.
fn paid<U: 'static>(at: &At<U>, store: &Resource<OpenStore>, bytes: usize) -> wasmtime::Result<Answer<(Scoped, Held)>> {
    at.with(|mut access| {
        let guest = access.get();
        let scoped = guest.table.get(store)?.0.clone();
        Ok(carried(guest, bytes).map(|held| (scoped, held)))
    })
}

/// What a call keeps beside the bytes that it carries: a future, and the command.
const CALL_BYTES: u64 = 2 << 10;

/// Pays for an operation that carries this many bytes, and counts them.
fn carried(guest: &mut Guest, bytes: usize) -> Answer<Held> {
    guest.spend(1, bytes)?;
    kept(guest, bytes)
}

/// Counts what a call keeps while it is in progress.
fn kept(guest: &Guest, bytes: usize) -> Answer<Held> {
    guest.meter.hold(bytes as u64 + CALL_BYTES).ok_or_else(|| Failed::Other(NO_MEMORY.to_owned()))
}

/// Returns the interface's error, if there is one.
macro_rules! paid {
    ($at:expr, $store:expr, $bytes:expr) => {
        match paid($at, $store, $bytes)? {
            Ok(paid) => paid,
            Err(failed) => return Ok(Err(kv_error(failed))),
        }
    };
}

impl kv::Host for Guest {}

impl kv::HostStore for Guest {
    fn drop(&mut self, store: Resource<OpenStore>) -> wasmtime::Result<()> {
        self.table.take(store)?;
        Ok(())
    }
}

impl<U: Send + 'static> kv::HostStoreWithStore<U> for HasSelf<Guest> {
    async fn open(at: &At<U>, label: String) -> Told<Resource<OpenStore>, kv::Error> {
        Ok(match at.with(|mut access| access.get().open_store(&label)) {
            Ok(Some(store)) => Ok(store),
            Ok(None) => Err(kv::Error::AccessDenied),
            Err(_full) => Err(kv::Error::StoreTableFull),
        })
    }

    async fn get(at: &At<U>, store: Resource<OpenStore>, key: String) -> Told<Option<Value>, kv::Error> {
        let (scoped, _held) = paid!(at, &store, key.len());
        let found = scoped.get(key.as_bytes()).await.map_err(|error| kv_error(error.into()));
        let bytes = found.as_ref().map_or(0, |value| value.as_ref().map_or(0, Vec::len));
        at.with(|mut access| access.get().brought(bytes));
        Ok(found)
    }

    async fn set(at: &At<U>, store: Resource<OpenStore>, key: String, value: Value) -> Told<(), kv::Error> {
        let (scoped, _held) = paid!(at, &store, key.len() + value.len());
        let done = scoped.set_many(vec![(key.into_bytes(), value)]).await;
        Ok(done.map_err(|error| kv_error(at.with(|mut access| access.get().refused(error)).into())))
    }

    async fn delete(at: &At<U>, store: Resource<OpenStore>, key: String) -> Told<(), kv::Error> {
        let (scoped, _held) = paid!(at, &store, key.len());
        Ok(scoped.delete_many(vec![key.into_bytes()]).await.map_err(|error| kv_error(error.into())))
    }

    async fn exists(at: &At<U>, store: Resource<OpenStore>, key: String) -> Told<bool, kv::Error> {
        let (scoped, _held) = paid!(at, &store, key.len());
        Ok(scoped.exists(key.as_bytes()).await.map_err(|error| kv_error(error.into())))
    }

    /// A task of the instance reads the pages, no faster than the guest reads the stream.
    async fn get_keys(
        at: &At<U>,
        store: Resource<OpenStore>,
    ) -> wasmtime::Result<(StreamReader<String>, FutureReader<Result<(), kv::Error>>)> {
        let scoped = at.with(|mut access| Ok::<_, wasmtime::Error>(access.get().table.get(&store)?.0.clone()))?;
        let (pages, waiting) = mpsc::channel(PAGES_WAITING);
        let (over, ended) = oneshot::channel();
        at.spawn(Listing { scoped, pages, over })?;
        at.with(|mut access| {
            let keys = StreamReader::new(&mut access, Keys(waiting, None))?;
            let ended = async {
                let cut_off = || Err(kv_error(Failed::Other("internal: the listing ended early".to_owned())));
                wasmtime::error::Ok(ended.await.unwrap_or_else(|_gone| cut_off()))
            };
            Ok((keys, FutureReader::new(&mut access, ended)?))
        })
    }
}

/// A page of keys, and the memory that it counts until the guest has read it.
type Page = (Vec<String>, Held);

/// Reads a store's keys. Each page is one operation.
struct Listing {
    scoped: Scoped,
    pages: mpsc::Sender<Page>,
    over: oneshot::Sender<Result<(), kv::Error>>,
}

impl<U: 'static> AccessorTask<U, HasSelf<Guest>> for Listing {
    async fn run(self, at: &At<U>) -> wasmtime::Result<()> {
        let mut cursor = None;
        let done = loop {
            if let Err(refused) = at.with(|mut access| access.get().spend(1, 0)) {
                break Err(kv_error(refused.into()));
            }
            let page = match self.scoped.list(cursor.as_deref()).await {
                Ok(page) => page,
                Err(error) => break Err(kv_error(error.into())),
            };
            at.with(|mut access| access.get().brought_keys(&page.keys));
            // Keys are texts in this interface. A key that another interface wrote as bytes is not visible here.
            let keys: Vec<String> = page.keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect();
            let bytes = keys.iter().map(|key| key.capacity() + size_of::<String>()).sum::<usize>() as u64;
            let Some(held) = at.with(|mut access| access.get().meter.hold(bytes)) else {
                break Err(kv_error(Failed::Other(NO_MEMORY.to_owned())));
            };
            // A stream cannot deliver an empty batch.
            if !keys.is_empty() && self.pages.send((keys, held)).await.is_err() {
                // The guest has stopped reading.
                break Ok(());
            }
            match page.cursor {
                Some(next) => cursor = Some(next),
                None => break Ok(()),
            }
        };
        let _nobody_asks = self.over.send(done);
        Ok(())
    }
}

/// The pages as a stream of keys, and the memory of the page that is being read.
struct Keys(mpsc::Receiver<Page>, Option<Held>);

impl<D> StreamProducer<D> for Keys {
    type Item = String;
    type Buffer = VecBuffer<String>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        _: StoreContextMut<'a, D>,
        mut to: Destination<'a, String, VecBuffer<String>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if finish && self.0.is_empty() && !self.0.is_closed() {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        Poll::Ready(Ok(match ready!(self.0.poll_recv(cx)) {
            Some((page, held)) => {
                self.1 = Some(held);
                to.set_buffer(page.into());
                StreamResult::Completed
            }
            None => StreamResult::Dropped,
        }))
    }
}

fn redis_error(failed: Failed) -> redis::Error {
    match failed {
        Failed::WrongType => redis::Error::TypeError,
        Failed::Other(text) => redis::Error::Other(text),
    }
}

fn raw<U: 'static>(at: &At<U>, connection: &Resource<Connection>) -> wasmtime::Result<Raw> {
    at.with(|mut access| Ok(access.get().table.get(connection)?.0.clone()))
}

/// Runs a Redis command: charges one operation, and what it carries and returns.
async fn command<U: 'static>(
    at: &At<U>,
    connection: &Resource<Connection>,
    name: &str,
    arguments: Vec<Vec<u8>>,
) -> Told<Vec<Reply>, Failed> {
    let raw = raw(at, connection)?;
    let paid: Answer<Held> = at.with(|mut access| {
        let guest = access.get();
        guest.spend_on_command(name, &arguments)?;
        kept(guest, arguments.iter().map(Vec::len).sum())
    });
    let _held = match paid {
        Ok(held) => held,
        Err(failed) => return Ok(Err(failed)),
    };
    let answered = raw.execute(name.as_bytes(), arguments).await;
    Ok(at.with(|mut access| access.get().replied(answered)))
}

impl redis::Host for Guest {}

impl redis::HostConnection for Guest {
    fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.take(connection)?;
        Ok(())
    }
}

type To = Resource<Connection>;

impl<U: Send + 'static> redis::HostConnectionWithStore<U> for HasSelf<Guest> {
    async fn open(at: &At<U>, address: String) -> Told<To, redis::Error> {
        at.with(|mut access| {
            let guest = access.get();
            let Some(raw) = guest.redis(&address) else { return Ok(Err(redis::Error::InvalidAddress)) };
            Ok(guest.table.put(Connection(raw)).map_err(|_full| redis::Error::TooManyConnections))
        })
    }

    async fn publish(at: &At<U>, to: To, channel: String, payload: Vec<u8>) -> Told<(), redis::Error> {
        let raw = raw(at, &to)?;
        let paid: Answer<_> = at.with(|mut access| {
            let guest = access.get();
            let held = carried(guest, channel.len() + payload.len())?;
            Ok((held, guest.next_message()?))
        });
        match paid {
            Ok((_held, line)) => {
                let sent = raw.publish(channel.as_bytes(), &payload, line).await;
                Ok(sent.map_err(|error| redis_error(error.into())))
            }
            Err(refused) => Ok(Err(redis_error(refused))),
        }
    }

    async fn get(at: &At<U>, from: To, key: String) -> Told<Option<Vec<u8>>, redis::Error> {
        Ok(command(at, &from, "GET", vec![key.into_bytes()]).await?.and_then(value).map_err(redis_error))
    }

    async fn set(at: &At<U>, to: To, key: String, value: Vec<u8>) -> Told<(), redis::Error> {
        let done = command(at, &to, "SET", vec![key.into_bytes(), value]).await?;
        Ok(done.map(|_ok| ()).map_err(redis_error))
    }

    async fn incr(at: &At<U>, to: To, key: String) -> Told<i64, redis::Error> {
        Ok(command(at, &to, "INCR", vec![key.into_bytes()])
            .await?
            .and_then(|replies| number(&replies))
            .map_err(redis_error))
    }

    async fn del(at: &At<U>, to: To, keys: Vec<String>) -> Told<u32, redis::Error> {
        let keys = keys.into_iter().map(String::into_bytes).collect();
        Ok(command(at, &to, "DEL", keys).await?.and_then(|replies| number(&replies)).map(count).map_err(redis_error))
    }

    async fn sadd(at: &At<U>, to: To, key: String, values: Vec<String>) -> Told<u32, redis::Error> {
        let added = command(at, &to, "SADD", arguments(key, values)).await?;
        Ok(added.and_then(|replies| number(&replies)).map(count).map_err(redis_error))
    }

    async fn smembers(at: &At<U>, of: To, key: String) -> Told<Vec<String>, redis::Error> {
        Ok(command(at, &of, "SMEMBERS", vec![key.into_bytes()]).await?.and_then(members).map_err(redis_error))
    }

    async fn srem(at: &At<U>, from: To, key: String, values: Vec<String>) -> Told<u32, redis::Error> {
        let removed = command(at, &from, "SREM", arguments(key, values)).await?;
        Ok(removed.and_then(|replies| number(&replies)).map(count).map_err(redis_error))
    }

    async fn execute(
        at: &At<U>,
        to: To,
        name: String,
        parameters: Vec<redis::RedisParameter>,
    ) -> Told<Vec<redis::RedisResult>, redis::Error> {
        let words = parameters.into_iter().map(|parameter| match parameter {
            redis::RedisParameter::Int64(number) => number.to_string().into_bytes(),
            redis::RedisParameter::Binary(bytes) => bytes,
        });
        let told = |reply| match reply {
            Reply::Nil => redis::RedisResult::Nil,
            Reply::Status(text) => redis::RedisResult::Status(text),
            Reply::Int(number) => redis::RedisResult::Int64(number),
            Reply::Bytes(bytes) => redis::RedisResult::Binary(bytes),
        };
        let replies = command(at, &to, &name, words.collect()).await?;
        Ok(replies.map(|replies| replies.into_iter().map(told).collect()).map_err(redis_error))
    }
}
