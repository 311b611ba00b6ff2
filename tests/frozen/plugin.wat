;; A plugin made for 0.2.0 of the contract, for good: every later host that accepts 0.2 must run it. It answers each call
;; with a constant that lies in its memory as the canonical ABI lays it out. `frozen.rs` makes a component of it.
(module
  (import "collector:source/log@0.2.0" "write" (func $write (param $level i32) (param $text i32) (param $bytes i32)))
  (import "collector:source/credentials@0.2.0" "client-assertion"
    (func $client-assertion (param i32 i32 i32 i32 i32 i32) (param $result i32)))
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1152))
  ;; Arguments are written behind the constants; nothing is given back, for a call is all that an instance does.
  (func (export "cabi_realloc") (param $old i32) (param $old-bytes i32) (param $align i32) (param $bytes i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $bytes)))
    (local.get $at))
  (func (export "collector:source/plugin@0.2.0#describe") (result i32) (i32.const 300))
  (func (export "collector:source/plugin@0.2.0#prepare") (param i32 i32) (result i32) (i32.const 480))
  ;; Asks for an assertion of a setting that is none: the refusal has the number 1, not-declared.
  (func (export "collector:source/plugin@0.2.0#fetch-token") (param $settings i32) (param $bytes i32) (result i32)
    (call $client-assertion
      (local.get $settings) (i32.const 0) (local.get $settings) (i32.const 0) (local.get $settings) (i32.const 0)
      (i32.const 1136))
    (if (i32.or
          (i32.ne (i32.load8_u (i32.const 1136)) (i32.const 1))
          (i32.ne (i32.load8_u offset=4 (i32.const 1136)) (i32.const 1)))
      (then unreachable))
    (i32.const 500))
  (func (export "collector:source/plugin@0.2.0#discover") (param i32 i32 i32 i32 i32) (result i32)
    (call $write (i32.const 1) (i32.const 16) (i32.const 42))
    (i32.const 632))
  (func (export "collector:source/plugin@0.2.0#poll") (param i32) (result i32) (i32.const 764))
  (func (export "collector:source/plugin@0.2.0#normalize") (param i32) (result i32) (i32.const 1024))
  ;; text
  (data (i32.const 16) "a plugin of 0.2.0 was asked for its scopes\00\00\00\00\00\00")
  ;; class uids: list<u64>
  (data (i32.const 64) "\d4\07\00\00\00\00\00\00")
  ;; text
  (data (i32.const 72) "itemsItems\00\00")
  ;; events: list<event-kind>: name, title, class-uids
  (data (i32.const 84) "H\00\00\00\05\00\00\00M\00\00\00\05\00\00\00@\00\00\00\01\00\00\00")
  ;; text
  (data (i32.const 108) "key\00")
  ;; credentials: list<declared-credential>: setting, kind (secret)
  (data (i32.const 112) "l\00\00\00\03\00\00\00\00\00\00\00")
  ;; text
  (data (i32.const 124) "date")
  ;; response headers: list<string>
  (data (i32.const 128) "|\00\00\00\04\00\00\00")
  ;; text
  (data (i32.const 136) "title\00\00\00")
  ;; identifiers: list<identifier>: name, kind (scope-name)
  (data (i32.const 144) "\88\00\00\00\05\00\00\00\02\00\00\00")
  ;; text
  (data (i32.const 156) "no-assertionThere is no assertion.\00\00")
  ;; diagnoses: list<diagnosis>: code, cause, fix
  (data (i32.const 192) "\9c\00\00\00\0c\00\00\00\a8\00\00\00\16\00\00\00\be\00\00\00\00\00\00\00")
  ;; text
  (data (i32.const 216) "frozen0.2.0{\22type\22:\22object\22,\22properties\22:{\22key\22:{\22type\22:\22string\22,\22writeOnly\22:true}}}")
  ;; describe: description
  (data (i32.const 300) "\d8\00\00\00\06\00\00\00\de\00\00\00\05\00\00\00T\00\00\00\01\00\00\00\e3\00\00\00I\00\00\00p\00\00\00\01\00\00\00\10\0e\00\00\01\00\00\00\80p\00\00\80\00\00\00\01\00\00\00\90\00\00\00\01\00\00\00\c0\00\00\00\01\00\00\00")
  ;; uses: list<credential-use>: credential (token), place (bearer)
  (data (i32.const 376) "\02\00\00\00\00\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00\00\00\00\00")
  ;; text
  (data (i32.const 400) "GEThttps://api.example/items/\00\00\00")
  ;; shapes: list<shape>: method, origin, path (prefix), credentials, captures (none)
  (data (i32.const 432) "\90\01\00\00\03\00\00\00\93\01\00\00\13\00\00\00\01\00\00\00\a6\01\00\00\07\00\00\00x\01\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  ;; prepare: ok(plan): shapes, warnings
  (data (i32.const 480) "\00\00\00\00\b0\01\00\00\01\00\00\00\00\00\00\00\00\00\00\00")
  ;; fetch-token: ok(none)
  (data (i32.const 500) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  ;; text
  (data (i32.const 580) "oneOneopaque")
  ;; scopes: list<scope>: id, name, owner, plugin-data
  (data (i32.const 592) "D\02\00\00\03\00\00\00\01\00\00\00G\02\00\00\03\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00J\02\00\00\06\00\00\00")
  ;; discover: ok(discovery): scopes, skipped, notices
  (data (i32.const 632) "\00\00\00\00P\02\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  ;; text
  (data (i32.const 708) "items{\22value\22:[]}request-1\00\00")
  ;; pages: list<page>: kind, body, request-id
  (data (i32.const 736) "\c4\02\00\00\05\00\00\00\c9\02\00\00\0c\00\00\00\01\00\00\00\d5\02\00\00\09\00\00\00")
  ;; poll: ok(poll-step): pages, next (none), notices
  (data (i32.const 764) "\00\00\00\00\e0\02\00\00\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00")
  ;; text
  (data (i32.const 836) "{\22class_uid\22:2004,\22metadata\22:{\22uid\22:\22frozen-1\22},\22time\22:1780000000000}frozen-1\00\00\00\00\00\00\00")
  ;; event: list<event>: uid, time-milliseconds, body
  (data (i32.const 920) "\89\03\00\00\08\00\00\00\00\88Dp\9e\01\00\00D\03\00\00E\00\00\00")
  ;; text
  (data (i32.const 944) "itemsfinding-1A finding\00")
  ;; measures: list<measure>: kind, subject, title, value, maximum, weight
  (data (i32.const 968) "\b0\03\00\00\05\00\00\00\b5\03\00\00\09\00\00\00\be\03\00\00\09\00\00\00\00\00\00\00\00\00\08@\00\00\00\00\00\00\10@\00\00\00\00\00\00\f0?")
  ;; text
  (data (i32.const 1016) "1 state\00")
  ;; normalize: ok(batch): events, state, outcome (none), notices, measures
  (data (i32.const 1024) "\00\00\00\00\98\03\00\00\01\00\00\00\f8\03\00\00\07\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\c8\03\00\00\01\00\00\00")
)
