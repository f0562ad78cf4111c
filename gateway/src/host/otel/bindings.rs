//! Generated from `wit/wasi-otel-0.2.0-rc.2`.
wasmtime::component::bindgen!({
    path: "wit/wasi-otel-0.2.0-rc.2",
    world: "imports",
    imports: { default: trappable },
    require_store_data_send: true,
});
