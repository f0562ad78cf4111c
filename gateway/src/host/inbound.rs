//! What a component exports that a message starts: the bindings of both generations.

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
