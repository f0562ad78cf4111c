//! What a component exports that a message or the time starts: bindings.

pub(crate) mod one {
    //! Of Spin 1 and 2; made from `wit/fermyon-spin-1`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-1",
        world: "listener",
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub(crate) mod three {
    //! Of Spin 4, asynchronous; made from `wit/spin-3.0.0`.
    wasmtime::component::bindgen!({
        path: "wit/spin-3.0.0",
        world: "listener",
        exports: { default: async | store },
        imports: { default: trappable },
        with: {
            "spin:redis/redis": super::super::spin_three::bindings::spin::redis::redis,
        },
        require_store_data_send: true,
    });
}

pub(crate) mod cron {
    //! Of Spin's cron plugin; made from `wit/fermyon-spin-cron-2.0.0`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-cron-2.0.0",
        world: "spin-cron",
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// It has types and no calls.
impl cron::fermyon::spin_cron::cron_types::Host for super::Guest {}
