;; The part that both kinds of the canary share: imports, memory, and behaviour.
;;
;; The first letter of the request's path says what to do; after `w` comes a secret of 32 bytes.
;;   w  leave the secret everywhere that a guest can leave something
;;   v  check that the secret is still there, as it must be for the tenant that left it
;;   k  answer with the value from its store, for the cache to keep
;;   l  look for what another tenant left
;;   d  delete the value in the store
;; The response's status is 200 plus a sum of what it found: 1 the image, 2 memory, 4 the heap, 8 the table, 16 the stack, 32 the
;; store's key; 64 says that the store did not answer.

(import "wasi:keyvalue/store@0.2.0-draft2" (instance $keyvalue
  (export "bucket" (type $bucket (sub resource)))
  (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
  (export "error" (type $error (eq $error')))
  (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
  (export "[method]bucket.get"
    (func (param "self" (borrow $bucket)) (param "key" string) (result (result (option (list u8)) (error $error)))))
  (export "[method]bucket.set"
    (func (param "self" (borrow $bucket)) (param "key" string) (param "value" (list u8)) (result (result (error $error)))))
  (export "[method]bucket.delete"
    (func (param "self" (borrow $bucket)) (param "key" string) (result (result (error $error)))))))
(import "wasi:io/error@0.2.0" (instance $io (export "error" (type (sub resource)))))
(alias export $io "error" (type $io-error))
(import "wasi:io/streams@0.2.0" (instance $streams
  (export "output-stream" (type $stream (sub resource)))
  (alias outer 1 $io-error (type $of-io))
  (export "error" (type $error (eq $of-io)))
  (type $stream-error' (variant (case "last-operation-failed" (own $error)) (case "closed")))
  (export "stream-error" (type $stream-error (eq $stream-error')))
  (export "[method]output-stream.blocking-write-and-flush"
    (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
(alias export $streams "output-stream" (type $output))
(import "wasi:cli/stdout@0.2.0" (instance $stdout
  (alias outer 1 $output (type $of-streams))
  (export "output-stream" (type $stream (eq $of-streams)))
  (export "get-stdout" (func (result (own $stream))))))

;; The memory has its own module, because the host's functions need it before the canary's module exists.
;;   0       results of the host               1024    names
;;   2048    the secret                        3072    the response
;;   4096    values from the host              65536   the image, between two marks
;;   131072  zeros at first                    262144  grown while it runs: the heap
(core module $store
  (memory (export "memory") 4 64)
  (global $next (mut i32) (i32.const 4096))
  (data (i32.const 1024) "default.secret..cache-control...max-age=60......x-secret")
  (data (i32.const 65536) "canary's image, ")
  (data (i32.const 131056) "and it ends here")
  (func (export "rewind") (global.set $next (i32.const 4096)))
  (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next
      (i32.and (i32.add (i32.add (local.get $at) (local.get $bytes)) (i32.const 15)) (i32.const -16)))
    (if (i32.gt_u (global.get $next) (i32.const 65536)) (then (unreachable)))
    (local.get $at)))
(core instance $store (instantiate $store))
(alias core export $store "memory" (core memory $memory))
(alias core export $store "realloc" (core func $realloc))

(alias export $keyvalue "bucket" (type $bucket))
(core func $drop-bucket (canon resource.drop $bucket))
(core func $drop-stream (canon resource.drop $output))
(core func $open (canon lower (func $keyvalue "open") (memory $memory) (realloc $realloc)))
(core func $get (canon lower (func $keyvalue "[method]bucket.get") (memory $memory) (realloc $realloc)))
(core func $set (canon lower (func $keyvalue "[method]bucket.set") (memory $memory) (realloc $realloc)))
(core func $delete (canon lower (func $keyvalue "[method]bucket.delete") (memory $memory) (realloc $realloc)))
(core func $stdout (canon lower (func $stdout "get-stdout")))
(core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))

(core module $canary
  (import "store" "memory" (memory 4 64))
  (import "store" "rewind" (func $rewind))
  (import "host" "drop-bucket" (func $drop-bucket (param i32)))
  (import "host" "drop-stream" (func $drop-stream (param i32)))
  (import "host" "open" (func $open (param i32 i32 i32)))
  (import "host" "get" (func $get (param i32 i32 i32 i32)))
  (import "host" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
  (import "host" "delete" (func $delete (param i32 i32 i32 i32)))
  (import "host" "stdout" (func $stdout (result i32)))
  (import "host" "write" (func $write (param i32 i32 i32 i32)))
  (table $table 1000 funcref)
  (elem declare func $stack)
  (global $bucket (mut i32) (i32.const 0))
  ;; 1 if the store did not answer.
  (global $silent (mut i32) (i32.const 0))
  ;; 1 if the response carries the secret at 2048.
  (global $keeps (export "keeps") (mut i32) (i32.const 0))

  ;; Fills a range with copies of the secret.
  (func $fill (param $at i32) (param $end i32)
    (loop $more
      (memory.copy (local.get $at) (i32.const 2048) (i32.const 32))
      (local.set $at (i32.add (local.get $at) (i32.const 32)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end)))))

  ;; Whether a range contains anything but zeros.
  (func $is-dirty (param $at i32) (param $end i32) (result i32)
    (local $seen i64)
    (loop $more
      (local.set $seen (i64.or (local.get $seen) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
    (i64.ne (local.get $seen) (i64.const 0)))

  ;; A thousand stack frames with the secret in each; or, if it is 0, with the initial values of their variables.
  (func $stack (param $deep i32) (param $secret i64) (result i64)
    (local $a i64) (local $b i64) (local $c i64)
    (if (i64.ne (local.get $secret) (i64.const 0)) (then
      (local.set $a (local.get $secret))
      (local.set $b (i64.rotl (local.get $secret) (i64.const 7)))
      (local.set $c (i64.rotl (local.get $secret) (i64.const 23)))))
    (if (result i64) (local.get $deep)
      (then (i64.or
        (call $stack (i32.sub (local.get $deep) (i32.const 1)) (local.get $secret))
        (i64.or (local.get $a) (i64.or (local.get $b) (local.get $c)))))
      (else (i64.const 0))))

  (func $heap
    (if (i32.lt_u (memory.size) (i32.const 24)) (then
      (if (i32.eq (memory.grow (i32.const 20)) (i32.const -1)) (then (unreachable))))))

  ;; 1: the image has changed.
  (func $image (result i32)
    (i32.or
      (call $is-dirty (i32.const 65552) (i32.const 131056))
      (i32.eqz (i32.and
        (i64.eq (i64.load (i32.const 65536)) (i64.const 0x73277972616e6163))
        (i64.eq (i64.load (i32.const 131064)) (i64.const 0x657265682073646e))))))

  ;; 8: an element of the table is not null.
  (func $elements (result i32)
    (local $at i32) (local $seen i32)
    (loop $more
      (local.set $seen (i32.or (local.get $seen) (i32.eqz (ref.is_null (table.get $table (local.get $at))))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 1000))))
    (local.get $seen))

  ;; Records a failed call of the store; the host's result at 0 says whether it failed.
  (func $heed (result i32)
    (if (i32.load8_u (i32.const 0)) (then (global.set $silent (i32.const 1))))
    (global.get $silent))

  (func $opened (result i32)
    (call $open (i32.const 1024) (i32.const 7) (i32.const 0))
    (global.set $bucket (i32.load (i32.const 4)))
    (i32.eqz (call $heed)))

  ;; Whether the store has a value at the key; copies the value to 2048.
  (func $stored (result i32)
    (if (i32.eqz (call $opened)) (then (return (i32.const 0))))
    (call $get (global.get $bucket) (i32.const 1032) (i32.const 6) (i32.const 0))
    (call $drop-bucket (global.get $bucket))
    (if (call $heed) (then (return (i32.const 0))))
    (if (i32.eqz (i32.load8_u (i32.const 4))) (then (return (i32.const 0))))
    (if (i32.eq (i32.load (i32.const 12)) (i32.const 32))
      (then (memory.copy (i32.const 2048) (i32.load (i32.const 8)) (i32.const 32))))
    (i32.const 1))

  (func $log
    (local $stream i32)
    (local.set $stream (call $stdout))
    (i32.store8 (i32.const 2080) (i32.const 10))
    (call $write (local.get $stream) (i32.const 2048) (i32.const 33) (i32.const 0))
    (call $drop-stream (local.get $stream)))

  (func $leave (param $path i32)
    (memory.copy (i32.const 2048) (i32.add (local.get $path) (i32.const 2)) (i32.const 32))
    (if (call $opened) (then
      (call $set (global.get $bucket)
        (i32.const 1032) (i32.const 6) (i32.const 2048) (i32.const 32) (i32.const 0))
      (call $drop-bucket (global.get $bucket))
      (drop (call $heed))))
    (call $log)
    (call $heap)
    (call $fill (i32.const 65536) (i32.const 1572864))
    (table.fill $table (i32.const 0) (ref.func $stack) (i32.const 1000))
    (drop (call $stack (i32.const 1000) (i64.load (i32.const 2048)))))

  ;; 1 the image, 2 memory, 4 the heap, 8 the table, 16 the stack.
  (func $look (result i32)
    (call $heap)
    (i32.or
      (i32.or
        (call $image)
        (i32.shl (call $is-dirty (i32.const 131072) (i32.const 262144)) (i32.const 1)))
      (i32.or
        (i32.or
          (i32.shl (call $is-dirty (i32.const 262144) (i32.const 1572864)) (i32.const 2))
          (i32.shl (call $elements) (i32.const 3)))
        (i32.shl (i64.ne (call $stack (i32.const 1000) (i64.const 0)) (i64.const 0)) (i32.const 4)))))

  ;; Does what the path says and returns the status.
  (func (export "run") (param $path i32) (param $bytes i32) (result i32)
    (local $asked i32) (local $found i32)
    (global.set $keeps (i32.const 0))
    (global.set $silent (i32.const 0))
    (if (i32.lt_u (local.get $bytes) (i32.const 2)) (then (unreachable)))
    (local.set $asked (i32.load8_u offset=1 (local.get $path)))
    (if (i32.eq (local.get $asked) (i32.const 0x77)) (then ;; w
      (if (i32.ne (local.get $bytes) (i32.const 34)) (then (unreachable)))
      (call $leave (local.get $path))))
    (if (i32.eq (local.get $asked) (i32.const 0x76)) (then ;; v
      (local.set $found (i32.or (call $look) (i32.shl (call $stored) (i32.const 5))))))
    (if (i32.eq (local.get $asked) (i32.const 0x6b)) (then ;; k
      (global.set $keeps (call $stored))))
    (if (i32.eq (local.get $asked) (i32.const 0x6c)) (then ;; l
      (local.set $found (i32.or (call $look) (i32.shl (call $stored) (i32.const 5))))))
    (if (i32.eq (local.get $asked) (i32.const 0x64)) (then ;; d
      (if (call $opened) (then
        (call $delete (global.get $bucket) (i32.const 1032) (i32.const 6) (i32.const 0))
        (call $drop-bucket (global.get $bucket))
        (drop (call $heed))))))
    (call $rewind)
    (i32.add (i32.const 200) (i32.or (local.get $found) (i32.shl (global.get $silent) (i32.const 6))))))

(core instance $canary (instantiate $canary
  (with "store" (instance $store))
  (with "host" (instance
    (export "drop-bucket" (func $drop-bucket))
    (export "drop-stream" (func $drop-stream))
    (export "open" (func $open))
    (export "get" (func $get))
    (export "set" (func $set))
    (export "delete" (func $delete))
    (export "stdout" (func $stdout))
    (export "write" (func $write))))))
