//! fermyon:spin/redis, of Spin 1 and 2.0.0, over the tenant's raw keys.

use wasmtime::component::Resource;

use super::guest::Guest;
use super::spin::one::fermyon::spin::{redis as one, redis_types as one_types};
use super::spin::two::fermyon::spin::redis as two;
use super::spin::{Failed, arguments, count};
use super::table::Retains;
use crate::store::{Raw, Reply};

/// What a guest sees as a connection: the tenant's raw keys. The real connections are shared.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Connection(pub(super) Raw);

impl Retains for Connection {
    /// Names of bounded length, behind pointers.
    fn retained(&self) -> u64 {
        0
    }
}

type Answer<T, E> = wasmtime::Result<Result<T, E>>;

fn two_error(failed: Failed) -> two::Error {
    match failed {
        Failed::WrongType => two::Error::TypeError,
        Failed::Other(text) => two::Error::Other(text),
    }
}

impl two::Host for Guest {}

impl two::HostConnection for Guest {
    async fn open(&mut self, address: String) -> Answer<Resource<Connection>, two::Error> {
        let Some(raw) = self.redis(&address) else { return Ok(Err(two::Error::InvalidAddress)) };
        Ok(self.table.put(Connection(raw)).map_err(|_full| two::Error::TooManyConnections))
    }

    async fn publish(&mut self, to: Resource<Connection>, channel: String, payload: Vec<u8>) -> Answer<(), two::Error> {
        let raw = self.table.get(&to)?.0.clone();
        Ok(self.send(&raw, &channel, &payload).await.map_err(two_error))
    }

    async fn get(&mut self, from: Resource<Connection>, key: String) -> Answer<Option<Vec<u8>>, two::Error> {
        let raw = self.table.get(&from)?.0.clone();
        Ok(self.raw_value(&raw, key).await.map_err(two_error))
    }

    async fn set(&mut self, to: Resource<Connection>, key: String, value: Vec<u8>) -> Answer<(), two::Error> {
        let raw = self.table.get(&to)?.0.clone();
        Ok(self.command(&raw, "SET", vec![key.into_bytes(), value]).await.map(|_ok| ()).map_err(two_error))
    }

    async fn incr(&mut self, at: Resource<Connection>, key: String) -> Answer<i64, two::Error> {
        let raw = self.table.get(&at)?.0.clone();
        Ok(self.number(&raw, "INCR", vec![key.into_bytes()]).await.map_err(two_error))
    }

    async fn del(&mut self, at: Resource<Connection>, keys: Vec<String>) -> Answer<u32, two::Error> {
        let raw = self.table.get(&at)?.0.clone();
        let keys = keys.into_iter().map(String::into_bytes).collect();
        Ok(self.number(&raw, "DEL", keys).await.map(count).map_err(two_error))
    }

    async fn sadd(&mut self, at: Resource<Connection>, key: String, values: Vec<String>) -> Answer<u32, two::Error> {
        let raw = self.table.get(&at)?.0.clone();
        Ok(self.number(&raw, "SADD", arguments(key, values)).await.map(count).map_err(two_error))
    }

    async fn smembers(&mut self, at: Resource<Connection>, key: String) -> Answer<Vec<String>, two::Error> {
        let raw = self.table.get(&at)?.0.clone();
        Ok(self.raw_members(&raw, key).await.map_err(two_error))
    }

    async fn srem(&mut self, at: Resource<Connection>, key: String, values: Vec<String>) -> Answer<u32, two::Error> {
        let raw = self.table.get(&at)?.0.clone();
        Ok(self.number(&raw, "SREM", arguments(key, values)).await.map(count).map_err(two_error))
    }

    async fn execute(
        &mut self,
        at: Resource<Connection>,
        command: String,
        parameters: Vec<two::RedisParameter>,
    ) -> Answer<Vec<two::RedisResult>, two::Error> {
        let raw = self.table.get(&at)?.0.clone();
        let words = parameters.into_iter().map(|parameter| match parameter {
            two::RedisParameter::Int64(number) => number.to_string().into_bytes(),
            two::RedisParameter::Binary(bytes) => bytes,
        });
        let replies = self.command(&raw, &command, words.collect()).await;
        let told = |reply| match reply {
            Reply::Nil => two::RedisResult::Nil,
            Reply::Status(text) => two::RedisResult::Status(text),
            Reply::Int(number) => two::RedisResult::Int64(number),
            Reply::Bytes(bytes) => two::RedisResult::Binary(bytes),
        };
        Ok(replies.map(|replies| replies.into_iter().map(told).collect()).map_err(two_error))
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.take(connection)?;
        Ok(())
    }
}

impl one_types::Host for Guest {}

/// Spin 1 has a single error without a text. The text goes to the gateway's log.
impl Guest {
    fn one<T>(&self, answer: Result<T, Failed>) -> wasmtime::Result<Result<T, one::Error>> {
        Ok(answer.map_err(|failed| {
            tracing::debug!(target: "host", request_id = %self.record.id, "fermyon:spin/redis: {}", failed.text());
            one::Error::Error
        }))
    }
}

macro_rules! granted {
    ($guest:expr, $address:expr) => {
        match $guest.redis(&$address) {
            Some(raw) => raw,
            None => return Ok(Err(one::Error::Error)),
        }
    };
}

impl one::Host for Guest {
    async fn publish(&mut self, address: String, channel: String, payload: Vec<u8>) -> Answer<(), one::Error> {
        let raw = granted!(self, address);
        let answer = self.send(&raw, &channel, &payload).await;
        self.one(answer)
    }

    async fn get(&mut self, address: String, key: String) -> Answer<Vec<u8>, one::Error> {
        let raw = granted!(self, address);
        let answer = self.raw_value(&raw, key).await;
        // In this interface a missing value is an empty one, as in Spin 1.
        self.one(answer.map(Option::unwrap_or_default))
    }

    async fn set(&mut self, address: String, key: String, value: Vec<u8>) -> Answer<(), one::Error> {
        let raw = granted!(self, address);
        let answer = self.command(&raw, "SET", vec![key.into_bytes(), value]).await;
        self.one(answer.map(|_ok| ()))
    }

    async fn incr(&mut self, address: String, key: String) -> Answer<i64, one::Error> {
        let raw = granted!(self, address);
        let answer = self.number(&raw, "INCR", vec![key.into_bytes()]).await;
        self.one(answer)
    }

    async fn del(&mut self, address: String, keys: Vec<String>) -> Answer<i64, one::Error> {
        let raw = granted!(self, address);
        let answer = self.number(&raw, "DEL", keys.into_iter().map(String::into_bytes).collect()).await;
        self.one(answer)
    }

    async fn sadd(&mut self, address: String, key: String, values: Vec<String>) -> Answer<i64, one::Error> {
        let raw = granted!(self, address);
        let answer = self.number(&raw, "SADD", arguments(key, values)).await;
        self.one(answer)
    }

    async fn smembers(&mut self, address: String, key: String) -> Answer<Vec<String>, one::Error> {
        let raw = granted!(self, address);
        let answer = self.raw_members(&raw, key).await;
        self.one(answer)
    }

    async fn srem(&mut self, address: String, key: String, values: Vec<String>) -> Answer<i64, one::Error> {
        let raw = granted!(self, address);
        let answer = self.number(&raw, "SREM", arguments(key, values)).await;
        self.one(answer)
    }

    async fn execute(
        &mut self,
        address: String,
        command: String,
        parameters: Vec<one::RedisParameter>,
    ) -> Answer<Vec<one::RedisResult>, one::Error> {
        let raw = granted!(self, address);
        let words = parameters.into_iter().map(|parameter| match parameter {
            one::RedisParameter::Int64(number) => number.to_string().into_bytes(),
            one::RedisParameter::Binary(bytes) => bytes,
        });
        let replies = self.command(&raw, &command, words.collect()).await;
        let told = |reply| match reply {
            Reply::Nil => one::RedisResult::Nil,
            Reply::Status(text) => one::RedisResult::Status(text),
            Reply::Int(number) => one::RedisResult::Int64(number),
            Reply::Bytes(bytes) => one::RedisResult::Binary(bytes),
        };
        self.one(replies.map(|replies| replies.into_iter().map(told).collect()))
    }
}
