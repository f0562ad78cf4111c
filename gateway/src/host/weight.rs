//! What WASI's resources retain: their bytes, and which of them a call touches.

use std::any::Any;

use wasmtime::component::{FutureReader, Resource, StreamReader};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::{DynInputStream, ReaddirIterator};
use wasmtime_wasi_http::p2::bindings::http::types as two;
use wasmtime_wasi_http::p2::body::{HostFutureTrailers, HostIncomingBody};
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p3::bindings::http::types as three;
use wasmtime_wasi_http::{FieldMap, p3};

use super::sizes::{INCOMING_BODY_BYTES, OUTGOING_BODY_BYTES};

/// The memory of each field in a map of header fields, beside name and value: an entry of 104 bytes and its index, in
/// vectors that double.
pub(super) const FIELD_BYTES: u64 = 224;
/// A file stream reads ahead this much.
pub(super) const FILE_STREAM_BYTES: u64 = 64 << 10;
/// A complete listing of a folder: 2,000 files with names of at most 255 bytes.
pub(super) const FOLDER_BYTES: u64 = 640 << 10;
/// The kernel's memory for an open file.
const FILE_BYTES: u64 = 4 << 10;

/// What a WASI resource keeps beside its handle. Nothing if that cannot be determined; then its creator charges it.
pub(super) fn weigh(entry: &dyn Any) -> Option<u64> {
    Some(if let Some(fields) = entry.downcast_ref::<FieldMap>() {
        fields_weigh(fields)
    } else if let Some(request) = entry.downcast_ref::<HostOutgoingRequest>() {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len) as u64;
        let scheme = request.scheme.as_ref().map_or(0, |scheme| scheme.bytes() as u64);
        let texts = text(&request.authority) + text(&request.path_with_query) + scheme + request.method.bytes() as u64;
        texts + fields_weigh(&request.headers) + request.body.as_ref().map_or(0, |_| OUTGOING_BODY_BYTES)
    } else if let Some(response) = entry.downcast_ref::<HostOutgoingResponse>() {
        fields_weigh(&response.headers) + response.body.as_ref().map_or(0, |_| OUTGOING_BODY_BYTES)
    } else if let Some(response) = entry.downcast_ref::<HostIncomingResponse>() {
        fields_weigh(&response.headers) + response.body.as_ref().map_or(0, |_| INCOMING_BODY_BYTES)
    } else if entry.is::<HostIncomingBody>() {
        INCOMING_BODY_BYTES
    } else if let Some(trailers) = entry.downcast_ref::<HostFutureTrailers>() {
        match trailers {
            // Arrived trailers are weighed when the guest takes them.
            HostFutureTrailers::Waiting(_) | HostFutureTrailers::Done(_) => INCOMING_BODY_BYTES,
            HostFutureTrailers::Consumed => 0,
        }
    } else if let Some(request) = entry.downcast_ref::<p3::Request>() {
        let scheme = request.scheme.as_ref().map_or(0, |scheme| scheme.as_str().len());
        let authority = request.authority.as_ref().map_or(0, |authority| authority.as_str().len());
        let path = request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        (request.method.as_str().len() + scheme + authority + path) as u64 + fields_weigh(&request.headers)
    } else if let Some(response) = entry.downcast_ref::<p3::Response>() {
        fields_weigh(&response.headers)
    } else if entry.is::<Descriptor>() {
        FILE_BYTES
    } else if entry.is::<DynInputStream>() || entry.is::<ReaddirIterator>() || entry.is::<HostIncomingRequest>() {
        return None;
    } else {
        0
    })
}

/// The most memory that header fields use.
pub(super) fn fields_weigh(fields: &http::HeaderMap) -> u64 {
    let texts: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    texts as u64 + fields.len() as u64 * FIELD_BYTES
}

/// The memory of an outbound request's head.
pub(crate) fn head_weighs<T>(request: &http::Request<T>) -> u64 {
    let uri = request.uri();
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    (request.method().as_str().len() + authority + path) as u64 + fields_weigh(request.headers())
}

/// The length of the text of a method or a scheme, if it is not one of the predefined cases.
pub(super) trait Bytes {
    fn bytes(&self) -> usize;
}

macro_rules! texts {
    ($($kind:ty, $other:path;)*) => {$(
        impl Bytes for $kind {
            fn bytes(&self) -> usize {
                if let $other(text) = self { text.len() } else { 0 }
            }
        }
    )*};
}
texts! {
    two::Method, two::Method::Other;
    two::Scheme, two::Scheme::Other;
    three::Method, three::Method::Other;
    three::Scheme, three::Scheme::Other;
}

impl Bytes for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

/// The places of the resources that a call receives or creates.
#[derive(Default)]
pub(super) struct Touched {
    places: [u32; Self::MAX],
    count: usize,
}

impl Touched {
    /// No call has more: `request.new` of 0.3 receives two and creates one.
    const MAX: usize = 6;

    pub(super) fn add(&mut self, value: &impl Touches) {
        value.touch(self);
    }

    pub(super) fn places(&self) -> &[u32] {
        self.places.get(..self.count).unwrap_or_default()
    }
}

/// An argument or a result of a WASI function.
pub(super) trait Touches {
    fn touch(&self, touched: &mut Touched);
}

impl<T> Touches for Resource<T> {
    fn touch(&self, touched: &mut Touched) {
        if let Some(place) = touched.places.get_mut(touched.count) {
            *place = self.rep();
            touched.count += 1;
        }
    }
}

impl<T: Touches> Touches for Option<T> {
    fn touch(&self, touched: &mut Touched) {
        self.iter().for_each(|value| touched.add(value));
    }
}

impl<T: Touches, E> Touches for Result<T, E> {
    fn touch(&self, touched: &mut Touched) {
        self.iter().for_each(|value| touched.add(value));
    }
}

impl<T: Touches> Touches for (T,) {
    fn touch(&self, touched: &mut Touched) {
        touched.add(&self.0);
    }
}

impl<T: Touches, U: Touches> Touches for (T, U) {
    fn touch(&self, touched: &mut Touched) {
        touched.add(&self.0);
        touched.add(&self.1);
    }
}

macro_rules! without_resources {
    ($($kind:ty),* $(,)?) => {$(
        impl Touches for $kind {
            fn touch(&self, _: &mut Touched) {}
        }
    )*};
}
without_resources!((), bool, u16, u64, String, two::ErrorCode, two::Method, two::Scheme, three::Method, three::Scheme);

/// No list in these functions contains handles.
impl<T> Touches for Vec<T> {
    fn touch(&self, _: &mut Touched) {}
}

impl<T> Touches for StreamReader<T> {
    fn touch(&self, _: &mut Touched) {}
}

impl<T> Touches for FutureReader<T> {
    fn touch(&self, _: &mut Touched) {}
}
