//! wasi:sockets of 2023, denied: there is a network, but no socket can be created.

use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{LinkerInstance, ResourceType};
use wasmtime_wasi::p2::Network;
use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
use wasmtime_wasi::sockets::WasiSocketsView as _;

use super::refuse;
use crate::host::Guest;

/// The type of sockets, address streams and datagram streams, which never exist.
enum Never {}

/// Defines what the component imports of one interface. The functions are derived from the import itself, because all that
/// may fail return `access-denied`; the others need a socket, and nobody has one.
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
            // It belongs to another interface, which defines it.
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

/// Whether this interface defines the resource.
fn is_made_in(interface: &str, resource: &str) -> bool {
    matches!(
        (interface, resource),
        ("tcp", "tcp-socket")
            | ("udp", "udp-socket" | "incoming-datagram-stream" | "outgoing-datagram-stream")
            | ("ip-name-lookup", "resolve-address-stream")
    )
}
