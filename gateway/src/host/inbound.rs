//! What a component of Spin exports that a message, the time or, in Spin 1, a request starts: bindings.

pub(crate) use super::spin_http::{headers as one_headers, texts as one_texts, texts_weigh};

pub(crate) mod responder {
    //! HTTP of Spin 1; made from `wit/fermyon-spin-1`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-1",
        world: "responder",
        exports: { default: async },
        require_store_data_send: true,
    });
}

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
