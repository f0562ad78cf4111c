//! Components in the text format that no compiler would produce: handlers of wasi:http 0.2 around a core module.

/// A component whose handler is the function `handle` of this core module, given by its fields and the function.
#[must_use]
pub fn component(module: &str) -> Vec<u8> {
    with(module, "(core instance $i (instantiate $m))")
}

/// The same with other core instances; `$i` is the one that contains `handle`.
#[must_use]
pub fn with(module: &str, instances: &str) -> Vec<u8> {
    handler(module, instances, "(param \"request\" (own $request)) (param \"response-out\" (own $out))")
}

/// The same with a handler of another type.
#[must_use]
pub fn handler(module: &str, instances: &str, parameters: &str) -> Vec<u8> {
    let text = format!(
        "(component
           (import \"wasi:http/types@0.2.0\" (instance $types
             (export \"incoming-request\" (type (sub resource)))
             (export \"response-outparam\" (type (sub resource)))))
           (alias export $types \"incoming-request\" (type $request))
           (alias export $types \"response-outparam\" (type $out))
           (core module $m {module})
           {instances}
           (func $handle {parameters} (canon lift (core func $i \"handle\")))
           (instance $handler (export \"handle\" (func $handle)))
           (export \"wasi:http/incoming-handler@0.2.0\" (instance $handler)))"
    );
    wat::parse_str(text).unwrap()
}

/// A handler that does nothing, so that there is no response.
pub const IDLE: &str = "(func (export \"handle\") (param i32 i32))";

/// Any component, in the text format.
#[must_use]
pub fn parse(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}
