//! What a guest passes in a host call is charged by its bytes, bounded before it is copied, and never repeated in full.
//! `loadtest prices` measures what each function costs the processor.

use tests::{Gateway, Site, Tenant, wat};

const MIB: usize = 1 << 20;
/// Fuel in millions.
const MUCH: u64 = 200;

/// A handler that calls wasi:http, a clock, and Spin's variables and stores, as `body` specifies, with 16 MiB of memory
/// full of zeros. It returns no response, and traps on unexpected results.
fn guest(body: &str) -> Vec<u8> {
    wat::parse(&format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))
            (export "fields" (type $fields (sub resource)))
            (export "outgoing-request" (type $request (sub resource)))
            (type $wrong' (variant (case "invalid-syntax") (case "forbidden") (case "immutable")))
            (export "header-error" (type $wrong (eq $wrong')))
            (export "[constructor]fields" (func (result (own $fields))))
            (export "[method]fields.has" (func (param "self" (borrow $fields)) (param "name" string) (result bool)))
            (export "[method]fields.append" (func (param "self" (borrow $fields)) (param "name" string)
              (param "value" (list u8)) (result (result (error $wrong)))))
            (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
            (export "[method]outgoing-request.set-authority" (func (param "self" (borrow $request))
              (param "authority" (option string)) (result (result))))))
          (import "fermyon:spin/variables@2.0.0" (instance $variables
            (type $why' (variant (case "invalid-name" string) (case "undefined" string) (case "provider" string)
              (case "other" string)))
            (export "error" (type $why (eq $why')))
            (export "get" (func (param "name" string) (result (result string (error $why)))))))
          (import "fermyon:spin/key-value" (instance $stores
            (type $failed' (variant (case "store-table-full") (case "no-such-store") (case "access-denied")
              (case "invalid-store") (case "no-such-key") (case "io" string)))
            (export "error" (type $failed (eq $failed')))
            (export "get" (func (param "store" u32) (param "key" string) (result (result (list u8) (error $failed)))))))
          (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
          (alias export $poll "pollable" (type $pollable))
          (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (export "pollable" (type $timer (eq $pollable)))
            (export "subscribe-duration" (func (param "when" u64) (result (own $timer))))))
          (alias export $types "incoming-request" (type $incoming))
          (alias export $types "response-outparam" (type $out))
          (core module $memory
            (memory (export "memory") 256)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
          (core instance $memory (instantiate $memory))
          (alias core export $memory "memory" (core memory $m))
          (core func $realloc (alias core export $memory "realloc"))
          (core func $new (canon lower (func $types "[constructor]fields")))
          (core func $has (canon lower (func $types "[method]fields.has") (memory $m)))
          (core func $append (canon lower (func $types "[method]fields.append") (memory $m)))
          (core func $request (canon lower (func $types "[constructor]outgoing-request")))
          (core func $authority (canon lower (func $types "[method]outgoing-request.set-authority") (memory $m)))
          (core func $variable (canon lower (func $variables "get") (memory $m) (realloc $realloc)))
          (core func $stored (canon lower (func $stores "get") (memory $m) (realloc $realloc)))
          (core func $timer (canon lower (func $clock "subscribe-duration")))
          (core module $main
            (import "host" "memory" (memory 256))
            (import "host" "new" (func $new (result i32)))
            (import "host" "has" (func $has (param i32 i32 i32) (result i32)))
            (import "host" "append" (func $append (param i32 i32 i32 i32 i32 i32)))
            (import "host" "request" (func $request (param i32) (result i32)))
            (import "host" "authority" (func $authority (param i32 i32 i32 i32) (result i32)))
            (import "host" "variable" (func $variable (param i32 i32 i32)))
            (import "host" "stored" (func $stored (param i32 i32 i32 i32)))
            (import "host" "timer" (func $timer (param i64) (result i32)))
            (func $is (param i32 i32) (if (i32.ne (local.get 0) (local.get 1)) (then unreachable)))
            (func (export "handle") (param i32 i32) (local $left i32) (local $on i32) {body}))
          (core instance $main (instantiate $main (with "host" (instance
            (export "memory" (memory $m)) (export "new" (func $new)) (export "has" (func $has))
            (export "append" (func $append)) (export "request" (func $request))
            (export "authority" (func $authority)) (export "variable" (func $variable))
            (export "stored" (func $stored)) (export "timer" (func $timer))))))
          (func $handle (param "request" (own $incoming)) (param "response-out" (own $out))
            (canon lift (core func $main "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    ))
}

/// This many calls of `fields.has`, each with a name of this many bytes.
fn asks(calls: u32, bytes: usize) -> String {
    format!(
        "(local.set $on (call $new)) (local.set $left (i32.const {calls}))
         (loop $more (drop (call $has (local.get $on) (i32.const 0) (i32.const {bytes})))
           (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    )
}

/// A call, repeated this many times.
fn again(calls: u32, call: &str) -> String {
    format!(
        "(local.set $left (i32.const {calls}))
         (loop $more {call} (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
    )
}

/// A gateway with a tenant for each entry: its name, its handler's body, and its fuel limit in millions.
fn gateway(tenants: &[(&str, String, u64)]) -> Gateway {
    let mut site = Site::new();
    for (name, body, fuel) in tenants {
        site = site.file(&format!("{name}.wasm"), guest(body));
        let component = site.path(&format!("{name}.wasm"));
        let tenant = Tenant::of(&format!("{name}.localhost"), &component)
            .stores(&["default"])
            .with(&format!("[limits]\nfuel = \"{fuel}M\""));
        site = site.tenant(name, &tenant);
    }
    Gateway::start(&site)
}

async fn fuel(gateway: &Gateway, host: &str, fault: &str) -> u64 {
    let answer = gateway.get(&format!("{host}.localhost"), "/").await;
    assert_eq!(answer.problem(), fault, "{host}: {}", answer.text());
    gateway.record(&answer).await["fuel"].as_u64().unwrap()
}

#[tokio::test]
async fn the_bytes_of_a_call_burn_the_same_fuel_each_time() {
    let gateway = gateway(&[("few", asks(20, 4), MUCH), ("many", asks(20, MIB), MUCH)]);
    let few = fuel(&gateway, "few", "no-response").await;
    let many = fuel(&gateway, "many", "no-response").await;
    let more = many - few;
    let wanted = 20 * (MIB as u64 / 4 - 1);
    assert_eq!(more, wanted, "a unit for four bytes: {few} and {many}");
    assert_eq!(many, fuel(&gateway, "many", "no-response").await, "on every run");
}

#[tokio::test]
async fn an_invented_store_handle_costs_the_bytes_of_the_call() {
    let asks = |bytes: usize| {
        let call = format!("(call $stored (i32.const 4711) (i32.const 0) (i32.const {bytes}) (i32.const 8192))");
        again(
            20,
            &format!(
                "{call} (call $is (i32.load8_u (i32.const 8192)) (i32.const 1)) (call $is (i32.load8_u (i32.const 8196)) (i32.const 3))"
            ),
        )
    };
    let gateway = gateway(&[("few", asks(4), MUCH), ("many", asks(MIB), MUCH)]);
    let few = fuel(&gateway, "few", "no-response").await;
    let many = fuel(&gateway, "many", "no-response").await;
    assert_eq!(many - few, 20 * (MIB as u64 / 4 - 1), "{few} and {many}");
}

#[tokio::test]
async fn a_timer_costs_as_much_as_waking_its_guest() {
    let sets = |calls| again(calls, "(drop (call $timer (i64.const 1)))");
    let gateway = gateway(&[("one", sets(1), MUCH), ("more", sets(21), MUCH)]);
    let one = fuel(&gateway, "one", "no-response").await;
    let more = fuel(&gateway, "more", "no-response").await;
    assert!((20 * 10_000..20 * 11_000).contains(&(more - one)), "{one} and {more}");
}

#[tokio::test]
async fn a_call_lifts_no_more_than_its_guest_can_pay_for() {
    // 15 MiB cost 3.9M. What comes before costs the same with a short name.
    let before = fuel(&gateway(&[("short", asks(1, 4), MUCH)]), "short", "no-response").await;
    let limit = before / 1_000_000 + 3;
    let long = asks(1, 15 * MIB);
    let gateway = gateway(&[("poor", long.clone(), limit), ("rich", long, limit + 2)]);
    assert_eq!(fuel(&gateway, "poor", "fuel-exhausted").await, limit * 1_000_000, "all that it had");
    let paid = fuel(&gateway, "rich", "no-response").await;
    assert_eq!(paid, before + 15 * MIB as u64 / 4 - 1);
}

#[tokio::test]
async fn lifted_bytes_are_charged_even_if_they_are_not_text() {
    // Wasmtime ends a guest with an invalid text; by then the host has read 15 MiB.
    let broken = format!("(i32.store8 (i32.const {}) (i32.const 255)) {}", 15 * MIB - 1, asks(1, 15 * MIB));
    let gateway = gateway(&[("broken", broken, MUCH)]);
    let burned = fuel(&gateway, "broken", "trap").await;
    assert!(burned >= 15 * MIB as u64 / 4, "{burned}");
}

#[tokio::test]
async fn names_are_bounded_first_and_only_partly_shown() {
    // Names of the letter a: an authority of 1024 bytes and one of 1025, a header's name of 256 bytes and one of 257.
    let names = "(memory.fill (i32.const 0) (i32.const 97) (i32.const 4096))
        (local.set $on (call $request (call $new)))
        (call $is (call $authority (local.get $on) (i32.const 1) (i32.const 0) (i32.const 1024)) (i32.const 0))
        (call $is (call $authority (local.get $on) (i32.const 1) (i32.const 0) (i32.const 1025)) (i32.const 1))
        (local.set $on (call $new))
        (call $append (local.get $on) (i32.const 0) (i32.const 256) (i32.const 0) (i32.const 1) (i32.const 8192))
        (call $is (i32.load8_u (i32.const 8192)) (i32.const 0))
        (call $append (local.get $on) (i32.const 0) (i32.const 257) (i32.const 0) (i32.const 1) (i32.const 8192))
        (call $is (i32.load8_u (i32.const 8192)) (i32.const 1))
        (call $is (call $has (local.get $on) (i32.const 0) (i32.const 256)) (i32.const 1))
        (call $variable (i32.const 0) (i32.const 4096) (i32.const 8192))
        (call $is (i32.load8_u (i32.const 8192)) (i32.const 1))
        (call $is (i32.load8_u (i32.const 8196)) (i32.const 0))
        (call $is (i32.lt_u (i32.load (i32.const 8204)) (i32.const 400)) (i32.const 1))";
    let gateway = gateway(&[("names", names.to_owned(), MUCH)]);
    fuel(&gateway, "names", "no-response").await;
}
