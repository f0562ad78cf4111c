//! The handler by which a component answers requests: wasi:http's, of whichever version it exports, or Spin 1's.

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, InstancePre, Resource};
use wasmtime_wasi_http::p2::bindings::ProxyPre as Pre02;
use wasmtime_wasi_http::p2::bindings::http::types::{IncomingRequest, ResponseOutparam};
use wasmtime_wasi_http::p3::bindings::ServicePre as Pre03;

use crate::host::inbound::responder::ResponderPre;
use crate::host::{Guest, HANDLERS_OF_2023};

/// The handler of a component that requests may start.
pub(super) enum Handler {
    /// `wasi:http/incoming-handler@0.2.x`.
    Two(Pre02<Guest>),
    /// The same function under the name in a release candidate of 2023.
    Candidate(InstancePre<Guest>, ComponentExportIndex),
    /// `wasi:http/handler@0.3.x`.
    Three(Pre03<Guest>),
    /// `fermyon:spin/inbound-http` of Spin 1.
    SpinOne(ResponderPre<Guest>),
}

impl Handler {
    /// The handler that is called by default. Nothing if the component has none.
    pub(super) fn of(pre: &InstancePre<Guest>) -> Option<Self> {
        let [two, three] = Self::each(pre);
        two.or(three)
    }

    /// The handlers by wasi:http 0.2 or what is served as that, and by 0.3.
    pub(super) fn each(pre: &InstancePre<Guest>) -> [Option<Self>; 2] {
        let two = || Pre02::new(pre.clone()).ok().map(Self::Two);
        let three = || Pre03::new(pre.clone()).ok().map(Self::Three);
        let one = || ResponderPre::new(pre.clone()).ok().map(Self::SpinOne);
        [two().or_else(|| Self::of_2023(pre)).or_else(one), three()]
    }

    fn of_2023(pre: &InstancePre<Guest>) -> Option<Self> {
        let component = pre.component();
        let interface = HANDLERS_OF_2023.iter().find_map(|name| component.get_export_index(None, *name))?;
        let handle = component.get_export_index(Some(&interface), "handle")?;
        Some(Self::Candidate(pre.clone(), handle))
    }

    /// Its name in reports and problems. A candidate is served as 0.2 is, and each of its instances answers once.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Two(_) | Self::Candidate(..) => "0.2",
            Self::Three(_) => "0.3",
            Self::SpinOne(_) => "spin-1",
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
