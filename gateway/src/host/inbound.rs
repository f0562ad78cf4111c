//! Bindings for the exports of Spin components that a message, a schedule or, in Spin 1, a request starts.

pub(crate) use super::spin_http::{headers as one_headers, texts as one_texts, texts_weigh};

pub(crate) mod responder {
    //! HTTP in Spin 1; generated from `wit/fermyon-spin-1`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-1",
        world: "responder",
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub(crate) mod one {
    //! Spin 1 and 2; generated from `wit/fermyon-spin-1`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-1",
        world: "listener",
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub(crate) mod three {
    //! Spin 4, asynchronous; generated from `wit/spin-3.0.0`.
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
    //! Spin's cron plugin; generated from `wit/fermyon-spin-cron-2.0.0`.
    wasmtime::component::bindgen!({
        path: "wit/fermyon-spin-cron-2.0.0",
        world: "spin-cron",
        exports: { default: async },
        require_store_data_send: true,
    });
}

/// The interface has types and no functions.
impl cron::fermyon::spin_cron::cron_types::Host for super::Guest {}
