;; A handler that runs one call at a time: `fermyon:spin/inbound-http`, from a whole request to a whole response.
(import "fermyon:spin/http-types" (instance $types
  (type $method' (enum "get" "post" "put" "delete" "patch" "head" "options"))
  (export "method" (type $method (eq $method')))
  (type $pairs (list (tuple string string)))
  (export "headers" (type $headers (eq $pairs)))
  (export "params" (type $params (eq $pairs)))
  (type $bytes (list u8))
  (export "body" (type $body (eq $bytes)))
  (type $request' (record
    (field "method" $method) (field "uri" string) (field "headers" $headers) (field "params" $params)
    (field "body" (option $body))))
  (export "request" (type $request (eq $request')))
  (type $response' (record
    (field "status" u16) (field "headers" (option $headers)) (field "body" (option $body))))
  (export "response" (type $response (eq $response')))))
(alias export $types "request" (type $request))
(alias export $types "response" (type $response))

(core module $head
  (import "store" "memory" (memory 4 64))
  (import "canary" "run" (func $run (param i32 i32) (result i32)))
  (import "canary" "keeps" (global $keeps (mut i32)))
  ;; The headers are at 3200: two pairs of texts; the second pair has the secret.
  (func (export "handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
    (memory.fill (i32.const 3072) (i32.const 0) (i32.const 256))
    (i32.store16 (i32.const 3072) (call $run (local.get 1) (local.get 2)))
    (if (global.get $keeps) (then
      (i32.store8 (i32.const 3076) (i32.const 1))
      (i32.store (i32.const 3080) (i32.const 3200))
      (i32.store (i32.const 3084) (i32.const 2))
      (i32.store (i32.const 3200) (i32.const 1040))
      (i32.store (i32.const 3204) (i32.const 13))
      (i32.store (i32.const 3208) (i32.const 1056))
      (i32.store (i32.const 3212) (i32.const 10))
      (i32.store (i32.const 3216) (i32.const 1072))
      (i32.store (i32.const 3220) (i32.const 8))
      (i32.store (i32.const 3224) (i32.const 2048))
      (i32.store (i32.const 3228) (i32.const 32))))
    (i32.const 3072)))
(core instance $head (instantiate $head (with "store" (instance $store)) (with "canary" (instance $canary))))

(func $handle (param "req" $request) (result $response)
  (canon lift (core func $head "handle") (memory $memory) (realloc $realloc)))
(instance $handler (export "handle-request" (func $handle)))
(export "fermyon:spin/inbound-http" (instance $handler))
