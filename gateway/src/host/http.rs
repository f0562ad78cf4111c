//! Outbound HTTP from guests: denied. Grants for it are a later capability, so there is nothing to configure.

use std::future::Future;

use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

/// What one write to a body may bring. Two of these wait in each body, and a guest may have as many bodies as it may
/// have resources, read by nobody: with 200 resources, 3 a body, that is 8 MiB of the gateway's memory at most.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Answers every outbound request with `http-request-denied`.
#[derive(Debug)]
pub(super) struct DenyOutbound;

type Sent = Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>)>;

impl WasiHttpHooks for DenyOutbound {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES_MAX
    }
}
