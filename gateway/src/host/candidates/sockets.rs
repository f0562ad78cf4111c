//! wasi:sockets of 2023, which denies: there is a network, and no socket is ever made.

use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{LinkerInstance, ResourceType};
use wasmtime_wasi::p2::Network;
use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::refuse;
use crate::host::Guest;

/// What a socket, a name's addresses or a stream of datagrams would be.
enum Never {}

/// What the component imports of one interface. The functions are made after its own import, since all that may fail answer
/// `access-denied`; the others work on a socket, and nobody has one.
pub(super) fn add(
    mut to: LinkerInstance<'_, Guest>,
    interface: &str,
    import: &ComponentInstance,
    engine: &wasmtime::Engine,
) -> wasmtime::Result<()> {
    let own = interface.split('@').next().unwrap_or_default();
    for (name, item) in import.exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(_) if name == "instance-network" => {
                to.func_wrap(name, |mut store: wasmtime::StoreContextMut<'_, Guest>, ()| {
                    Ok((store.data_mut().sockets().instance_network()?,))
                })?;
            }
            ComponentItem::ComponentFunc(_) => refuse::<Network>(&mut to, name, "access-denied")?,
            ComponentItem::Resource(_) if name == "network" && own == "network" => {
                to.resource(name, ResourceType::host::<Network>(), |mut store, index| {
                    super::table(store.data_mut()).delete(wasmtime::component::Resource::<Network>::new_own(index))?;
                    Ok(())
                })?;
            }
            ComponentItem::Resource(_) if is_made_in(own, name) => {
                to.resource(name, ResourceType::host::<Never>(), |_, _| Ok(()))?;
            }
            // Of another interface, which defines it.
            ComponentItem::Resource(_)
            | ComponentItem::CoreFunc(_)
            | ComponentItem::Module(_)
            | ComponentItem::Component(_)
            | ComponentItem::ComponentInstance(_)
            | ComponentItem::Type(_) => {}
        }
    }
    Ok(())
}

/// Whether this interface is the one that defines the resource.
fn is_made_in(interface: &str, resource: &str) -> bool {
    matches!(
        (interface, resource),
        ("tcp", "tcp-socket")
            | ("udp", "udp-socket" | "incoming-datagram-stream" | "outgoing-datagram-stream")
            | ("ip-name-lookup", "resolve-address-stream")
    )
}
