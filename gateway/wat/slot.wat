;; The slot probe checks whether a pool slot is clean: one instance writes and ends, and the next one checks the memory that it gets.
;;
;; The first page of memory has an image, between two marks; the second is zero at first. The probe grows by twenty pages while it
;; runs: that is more than stays resident in a slot, so that it checks both ways in which pages are cleared.
(module
  (memory (export "memory") 2 64)
  (table $table 1000 funcref)
  (elem declare func $fill)
  (data (i32.const 0) "the image begins")
  (data (i32.const 65520) "and it ends here")

  (func $fill (param $at i32) (param $end i32)
    (loop $more
      (i64.store (local.get $at) (i64.const 0x5ec4e75ec4e75ec4))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end)))))

  (func $is-dirty (param $at i32) (param $end i32) (result i32)
    (local $seen i64)
    (loop $more
      (local.set $seen (i64.or (local.get $seen) (i64.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $more (i32.lt_u (local.get $at) (local.get $end))))
    (i64.ne (local.get $seen) (i64.const 0)))

  (func $heap
    (if (i32.lt_u (memory.size) (i32.const 22)) (then
      (if (i32.eq (memory.grow (i32.const 20)) (i32.const -1)) (then (unreachable))))))

  (func (export "write")
    (call $heap)
    (call $fill (i32.const 0) (i32.const 1441792))
    (table.fill $table (i32.const 0) (ref.func $fill) (i32.const 1000)))

  ;; 1: the image, 2: memory, 4: the heap, 8: an element of the table.
  (func (export "look") (result i32)
    (local $at i32) (local $seen i32)
    (call $heap)
    (loop $more
      (local.set $seen (i32.or (local.get $seen) (i32.eqz (ref.is_null (table.get $table (local.get $at))))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $at) (i32.const 1000))))
    (i32.or
      (i32.or
        (i32.or
          (call $is-dirty (i32.const 16) (i32.const 65520))
          (i32.eqz (i32.and
            (i64.eq (i64.load (i32.const 0)) (i64.const 0x67616d6920656874))
            (i64.eq (i64.load (i32.const 65528)) (i64.const 0x657265682073646e)))))
        (i32.shl (call $is-dirty (i32.const 65536) (i32.const 131072)) (i32.const 1)))
      (i32.or
        (i32.shl (call $is-dirty (i32.const 131072) (i32.const 1441792)) (i32.const 2))
        (i32.shl (local.get $seen) (i32.const 3))))))
