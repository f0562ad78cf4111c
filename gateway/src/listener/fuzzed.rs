//! Properties that hold for any bytes that a load balancer sends before the handshake (`gateway/fuzz/corpus/proxied`).

use futures_util::FutureExt as _;

use super::proxied;

/// # Panics
/// A header of version 1 names another client than the same header written again.
pub(crate) fn any_header(data: &[u8]) {
    let mut rest = data;
    // All bytes are there, or the input has ended: nothing waits.
    let Some(Ok(Some(client))) = proxied::read(&mut rest).now_or_never() else { return };
    assert!(rest.len() < data.len());
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let line = format!("PROXY {family} {0} {0} {1} 443\r\n", client.ip(), client.port());
    let mut again = line.as_bytes();
    let again = proxied::read(&mut again).now_or_never();
    assert!(matches!(again, Some(Ok(Some(of))) if of == client), "{client} is {again:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_file_of_the_corpus_is_handled() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/proxied");
        let mut checked = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            any_header(&std::fs::read(entry.unwrap().path()).unwrap());
            checked += 1;
        }
        assert!(checked >= 8, "{checked}");
    }

    proptest! {
        #[test]
        fn the_properties_hold_for_any_bytes(start in 0_usize..3, data: Vec<u8>) {
            let starts: [&[u8]; 3] = [b"", b"PROXY TCP4 ", b"\r\n\r\n\0\r\nQUIT\n\x21"];
            any_header(&[starts[start], &data].concat());
        }
    }
}
