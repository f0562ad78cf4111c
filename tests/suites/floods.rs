//! HTTP/2 frames that cost a client nothing: the connection is closed, and no other is affected.

use std::time::{Duration, Instant};

use tests::{Gateway, Protocol, Site, Tenant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Creates the next frame, by its number.
type Make = Box<dyn Fn(u32) -> Vec<u8>>;

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// GET https://echo.localhost/head, by the static table (RFC 7541 §A).
fn get() -> Vec<u8> {
    [&[0x82, 0x87, 0x44, 5], b"/head".as_slice(), &[0x41, 14], b"echo.localhost"].concat()
}

/// Sends the preface and then `make`'s frames until the gateway closes the connection. Returns how long that took.
async fn flood(gateway: &Gateway, make: impl Fn(u32) -> Vec<u8>) -> Duration {
    let stream = gateway.client(Protocol::H2).tls("echo.localhost").await;
    let (mut read, mut write) = tokio::io::split(stream);
    write.write_all(&[PREFACE, &frame(4, 0, 0, &[])].concat()).await.unwrap();
    let start = Instant::now();
    let reading = tokio::spawn(async move {
        let mut bytes = vec![0; 65536];
        // An end or an error: both mean that it was closed.
        while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    });
    for number in 0..200_000 {
        if reading.is_finished() || write.write_all(&make(number)).await.is_err() {
            break;
        }
    }
    let ended = tokio::time::timeout(Duration::from_secs(10), reading).await;
    assert!(ended.is_ok(), "the flood is let through");
    start.elapsed()
}

#[tokio::test]
async fn frames_without_content_end_their_connection_and_no_other() {
    let gateway = Gateway::start(&Site::new().tenant("echo", &Tenant::new("echo.localhost", "echo")));
    let other = gateway.client(Protocol::H2);
    let open = [frame(1, 4, 1, &get()), frame(0, 0, 1, &[])].concat();
    let floods: [(&str, Make); 7] = [
        ("PING", Box::new(|_| frame(6, 0, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(4, 0, 0, &[]))),
        ("PRIORITY", Box::new(|_| frame(2, 0, 1, &[0, 0, 0, 3, 1]))),
        ("an unknown kind", Box::new(|_| frame(0xf0, 0, 0, &[1]))),
        ("empty DATA", Box::new(move |number| if number == 0 { open.clone() } else { frame(0, 0, 1, &[]) })),
        (
            "CONTINUATION",
            Box::new(
                |number| {
                    if number == 0 { frame(1, 0, 1, &get()) } else { frame(9, 0, 1, &[0x40, 1, b'x', 1, b'y']) }
                },
            ),
        ),
        (
            "RST_STREAM",
            Box::new(|number| {
                let stream = 2 * number + 1;
                [frame(1, 5, stream, &get()), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
            }),
        ),
    ];
    for (what, make) in floods {
        let took = flood(&gateway, make).await;
        let answer = other.get("echo.localhost", "/head").await;
        assert_eq!(answer.status.as_u16(), 200, "{what}: another client is served");
        println!("{what}: cut after {took:?}");
    }
    gateway.quiet().await;
}
