//! The imports of core modules of Spin 0.5 to 1.5, as wit-bindgen 0.2 declared them: the module and function names of that
//! time, the canonical ABI with return pointers, and `canonical_abi_realloc`. No SDK of that time builds any more (it came
//! from a repository and not from a registry), so these declarations are written by hand.

#![allow(dead_code, reason = "each of two modules uses some of it")]

use std::alloc::{Layout, alloc, dealloc};

#[link(wasm_import_module = "outbound-redis")]
unsafe extern "C" {
    #[link_name = "publish"]
    fn redis_publish(at: *const u8, at_len: usize, channel: *const u8, channel_len: usize, payload: *const u8, payload_len: usize, out: *mut u8);
    #[link_name = "get"]
    fn redis_get(at: *const u8, at_len: usize, key: *const u8, key_len: usize, out: *mut u8);
    #[link_name = "set"]
    fn redis_set(at: *const u8, at_len: usize, key: *const u8, key_len: usize, value: *const u8, value_len: usize, out: *mut u8);
    #[link_name = "incr"]
    fn redis_incr(at: *const u8, at_len: usize, key: *const u8, key_len: usize, out: *mut u8);
    #[link_name = "smembers"]
    fn redis_smembers(at: *const u8, at_len: usize, key: *const u8, key_len: usize, out: *mut u8);
    #[link_name = "sadd"]
    fn redis_sadd(at: *const u8, at_len: usize, key: *const u8, key_len: usize, values: *const Slice, values_len: usize, out: *mut u8);
    #[link_name = "execute"]
    fn redis_execute(at: *const u8, at_len: usize, command: *const u8, command_len: usize, words: *const Parameter, words_len: usize, out: *mut u8);
}

#[link(wasm_import_module = "spin-config")]
unsafe extern "C" {
    #[link_name = "get-config"]
    fn config_get(key: *const u8, key_len: usize, out: *mut u8);
}

#[link(wasm_import_module = "key-value")]
unsafe extern "C" {
    #[link_name = "open"]
    fn store_open(name: *const u8, name_len: usize, out: *mut u8);
    #[link_name = "get"]
    fn store_get(store: u32, key: *const u8, key_len: usize, out: *mut u8);
    #[link_name = "set"]
    fn store_set(store: u32, key: *const u8, key_len: usize, value: *const u8, value_len: usize, out: *mut u8);
    #[link_name = "close"]
    fn store_close(store: u32);
}

#[link(wasm_import_module = "wasi-outbound-http")]
unsafe extern "C" {
    #[link_name = "request"]
    fn http_request(
        method: i32,
        uri: *const u8,
        uri_len: usize,
        headers: *const Pair,
        headers_len: usize,
        params: *const Pair,
        params_len: usize,
        has_body: i32,
        body: *const u8,
        body_len: usize,
        out: *mut u8,
    );
}

/// A text or list of bytes, in the memory layout of both sides.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slice {
    pub at: *const u8,
    pub len: usize,
}

/// A header.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pair {
    pub name: Slice,
    pub value: Slice,
}

/// An argument of a Redis command: the number of its case, and a list of bytes.
#[repr(C)]
pub struct Parameter {
    case: u8,
    bytes: [u32; 3],
}

/// The host allocates memory with this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn canonical_abi_realloc(old: *mut u8, old_len: usize, align: usize, new_len: usize) -> *mut u8 {
    unsafe {
        if new_len == 0 {
            return align as *mut u8;
        }
        let new = alloc(Layout::from_size_align_unchecked(new_len, align));
        if old_len > 0 {
            std::ptr::copy_nonoverlapping(old, new, old_len.min(new_len));
            dealloc(old, Layout::from_size_align_unchecked(old_len, align));
        }
        new
    }
}

/// The host of that time freed memory with this.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn canonical_abi_free(at: *mut u8, len: usize, align: usize) {
    if len > 0 {
        unsafe { dealloc(at, Layout::from_size_align_unchecked(len, align)) };
    }
}

/// The area that results are written to.
#[repr(C, align(8))]
struct Out([u8; 40]);

impl Out {
    fn new() -> Self {
        Self([0xee; 40])
    }

    fn is_ok(&self) -> bool {
        self.0[0] == 0
    }

    fn word(&self, at: usize) -> usize {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap()) as usize
    }

    fn bytes(&self, at: usize) -> Vec<u8> {
        unsafe { list(self.word(at), self.word(at + 4)) }
    }
}

unsafe fn list(at: usize, len: usize) -> Vec<u8> {
    if len == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(at as *const u8, len) }.to_vec() }
}

/// The bytes of an argument from the host.
pub unsafe fn given(at: *const u8, len: usize) -> Vec<u8> {
    unsafe { list(at as usize, len) }
}

/// The one Redis error of that time, by its number.
pub type Redis<T> = Result<T, u8>;

pub fn publish(address: &str, channel: &str, payload: &[u8]) -> Redis<()> {
    let mut out = Out::new();
    unsafe {
        redis_publish(address.as_ptr(), address.len(), channel.as_ptr(), channel.len(), payload.as_ptr(), payload.len(), out.0.as_mut_ptr());
    }
    if out.is_ok() { Ok(()) } else { Err(out.0[1]) }
}

pub fn get(address: &str, key: &str) -> Redis<Vec<u8>> {
    let mut out = Out::new();
    unsafe { redis_get(address.as_ptr(), address.len(), key.as_ptr(), key.len(), out.0.as_mut_ptr()) };
    if out.is_ok() { Ok(out.bytes(4)) } else { Err(out.0[4]) }
}

pub fn set(address: &str, key: &str, value: &[u8]) -> Redis<()> {
    let mut out = Out::new();
    unsafe { redis_set(address.as_ptr(), address.len(), key.as_ptr(), key.len(), value.as_ptr(), value.len(), out.0.as_mut_ptr()) };
    if out.is_ok() { Ok(()) } else { Err(out.0[1]) }
}

pub fn incr(address: &str, key: &str) -> Redis<i64> {
    let mut out = Out::new();
    unsafe { redis_incr(address.as_ptr(), address.len(), key.as_ptr(), key.len(), out.0.as_mut_ptr()) };
    if out.is_ok() { Ok(i64::from_le_bytes(out.0[8..16].try_into().unwrap())) } else { Err(out.0[8]) }
}

pub fn sadd(address: &str, key: &str, values: &[&str]) -> Redis<i64> {
    let mut out = Out::new();
    let values: Vec<Slice> = values.iter().map(|text| Slice { at: text.as_ptr(), len: text.len() }).collect();
    unsafe { redis_sadd(address.as_ptr(), address.len(), key.as_ptr(), key.len(), values.as_ptr(), values.len(), out.0.as_mut_ptr()) };
    if out.is_ok() { Ok(i64::from_le_bytes(out.0[8..16].try_into().unwrap())) } else { Err(out.0[8]) }
}

pub fn smembers(address: &str, key: &str) -> Redis<Vec<String>> {
    let mut out = Out::new();
    unsafe { redis_smembers(address.as_ptr(), address.len(), key.as_ptr(), key.len(), out.0.as_mut_ptr()) };
    if !out.is_ok() {
        return Err(out.0[4]);
    }
    let (at, len) = (out.word(4) as *const Slice, out.word(8));
    let texts = (0..len).map(|n| unsafe {
        let text = *at.add(n);
        String::from_utf8(given(text.at, text.len)).unwrap()
    });
    Ok(texts.collect())
}

/// Runs a command and returns its replies as text.
pub fn execute(address: &str, command: &str, words: &[&[u8]]) -> Redis<Vec<String>> {
    let mut out = Out::new();
    // Case 1 is a list of bytes. A number would be 8-byte aligned at the same place, so the list begins at byte 8.
    let words: Vec<Parameter> =
        words.iter().map(|bytes| Parameter { case: 1, bytes: [0, bytes.as_ptr() as u32, bytes.len() as u32] }).collect();
    unsafe { redis_execute(address.as_ptr(), address.len(), command.as_ptr(), command.len(), words.as_ptr(), words.len(), out.0.as_mut_ptr()) };
    if !out.is_ok() {
        return Err(out.0[4]);
    }
    let (at, len) = (out.word(4), out.word(8));
    let told = (0..len).map(|n| unsafe {
        let reply = std::slice::from_raw_parts((at + 16 * n) as *const u8, 16);
        let word = |at: usize| u32::from_le_bytes(reply[at..at + 4].try_into().unwrap()) as usize;
        let text = || String::from_utf8_lossy(&list(word(8), word(12))).into_owned();
        match reply[0] {
            0 => "nil".to_owned(),
            1 => format!("status {}", text()),
            2 => format!("int {}", i64::from_le_bytes(reply[8..16].try_into().unwrap())),
            _ => format!("bytes {}", text()),
        }
    });
    Ok(told.collect())
}

/// A variable, or the number of the error's case and its text.
pub fn config(key: &str) -> Result<String, (u8, String)> {
    let mut out = Out::new();
    unsafe { config_get(key.as_ptr(), key.len(), out.0.as_mut_ptr()) };
    if out.is_ok() {
        return Ok(String::from_utf8(out.bytes(4)).unwrap());
    }
    Err((out.0[4], String::from_utf8(out.bytes(8)).unwrap()))
}

/// An open store; dropping it closes it.
pub struct Store(u32);

impl Store {
    /// The error is the number of its case.
    pub fn open(name: &str) -> Result<Self, u8> {
        let mut out = Out::new();
        unsafe { store_open(name.as_ptr(), name.len(), out.0.as_mut_ptr()) };
        if out.is_ok() { Ok(Self(out.word(4) as u32)) } else { Err(out.0[4]) }
    }

    pub fn get(&self, key: &str) -> Result<Vec<u8>, u8> {
        let mut out = Out::new();
        unsafe { store_get(self.0, key.as_ptr(), key.len(), out.0.as_mut_ptr()) };
        if out.is_ok() { Ok(out.bytes(4)) } else { Err(out.0[4]) }
    }

    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), u8> {
        let mut out = Out::new();
        unsafe { store_set(self.0, key.as_ptr(), key.len(), value.as_ptr(), value.len(), out.0.as_mut_ptr()) };
        if out.is_ok() { Ok(()) } else { Err(out.0[4]) }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        unsafe { store_close(self.0) };
    }
}

/// Status, headers and body of a response to an outbound request.
pub type Answered = (u16, Vec<(String, String)>, Vec<u8>);

/// Sends an outbound request. The error is its number.
pub fn request(method: i32, uri: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Result<Answered, u8> {
    let mut out = Out::new();
    let slice = |text: &str| Slice { at: text.as_ptr(), len: text.len() };
    let headers: Vec<Pair> = headers.iter().map(|(name, value)| Pair { name: slice(name), value: slice(value) }).collect();
    let bytes = body.unwrap_or_default();
    unsafe {
        http_request(
            method,
            uri.as_ptr(),
            uri.len(),
            headers.as_ptr(),
            headers.len(),
            std::ptr::null(),
            0,
            i32::from(body.is_some()),
            bytes.as_ptr(),
            bytes.len(),
            out.0.as_mut_ptr(),
        );
    }
    if !out.is_ok() {
        return Err(out.0[4]);
    }
    let status = u16::from_le_bytes(out.0[4..6].try_into().unwrap());
    let headers = if out.0[8] == 0 { Vec::new() } else { unsafe { pairs(out.word(12) as *const Pair, out.word(16)) } };
    let body = if out.0[20] == 0 { Vec::new() } else { out.bytes(24) };
    Ok((status, headers, body))
}

/// Headers in the host's memory layout.
pub unsafe fn pairs(at: *const Pair, len: usize) -> Vec<(String, String)> {
    let text = |slice: Slice| unsafe { String::from_utf8(given(slice.at, slice.len)).unwrap() };
    (0..len).map(|n| unsafe { (text((*at.add(n)).name), text((*at.add(n)).value)) }).collect()
}
