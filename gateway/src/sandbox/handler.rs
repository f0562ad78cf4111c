//! What a component answers requests with: wasi:http's handler, of whichever version it exports.

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, InstancePre, Resource};
use wasmtime_wasi_http::p2::bindings::ProxyPre as Pre02;
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam};
use wasmtime_wasi_http::p3::bindings::ServicePre as Pre03;

use crate::host::{Guest, HANDLERS_OF_2023};

/// A component that requests may start.
pub(super) enum Handler {
    /// `wasi:http/incoming-handler@0.2.x`.
    Two(Pre02<Guest>),
    /// The same function by the name that it had in a candidate of 2023.
    Candidate(InstancePre<Guest>, ComponentExportIndex),
    /// `wasi:http/handler@0.3.x`.
    Three(Pre03<Guest>),
}

impl Handler {
    /// Nothing where it has no such handler.
    pub(super) fn of(pre: &InstancePre<Guest>) -> Option<Self> {
        let two = || Pre02::new(pre.clone()).ok().map(Self::Two);
        let three = || Pre03::new(pre.clone()).ok().map(Self::Three);
        two().or_else(|| Self::of_2023(pre)).or_else(three)
    }

    fn of_2023(pre: &InstancePre<Guest>) -> Option<Self> {
        let component = pre.component();
        let interface = HANDLERS_OF_2023.iter().find_map(|name| component.get_export_index(None, *name))?;
        let handle = component.get_export_index(Some(&interface), "handle")?;
        Some(Self::Candidate(pre.clone(), handle))
    }

    /// What reports call it: a candidate is served as 0.2 is, and an instance of it answers once.
    pub(super) const fn generation(&self) -> &'static str {
        match self {
            Self::Two(_) | Self::Candidate(..) => "0.2",
            Self::Three(_) => "0.3",
        }
    }
}

/// Calls the handler of a candidate.
pub(super) async fn call_candidate(
    store: &mut Store<Guest>,
    instance: &wasmtime::component::Instance,
    handle: ComponentExportIndex,
    arguments: (Resource<IncomingRequest>, Resource<ResponseOutparam>),
) -> wasmtime::Result<()> {
    let handle =
        instance.get_typed_func::<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>(&mut *store, handle)?;
    handle.call_async(store, arguments).await
}
