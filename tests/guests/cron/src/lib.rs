//! Runs on a schedule: increments the key `run-SECONDS`, then does what the environment variable `MODE` says.

mod cron {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/fermyon-spin-cron-2.0.0",
        world: "spin-cron",
        generate_all,
    });

    struct Timed;
    export!(Timed);

    impl Guest for Timed {
        fn handle_cron_event(metadata: Metadata) -> Result<(), Error> {
            crate::due(metadata.timestamp).map_err(Error::Other)
        }
    }
}

mod keyvalue {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft2",
        world: "imports",
        generate_all,
    });
}

use keyvalue::wasi::keyvalue::{atomics, store};

fn due(timestamp: u64) -> Result<(), String> {
    let mode = std::env::var("MODE").unwrap_or_default();
    let name = std::env::var("NAME").unwrap_or_else(|_| "run".to_owned());
    let bucket = store::open("default").map_err(|error| format!("{error:?}"))?;
    atomics::increment(&bucket, &format!("{name}-{timestamp}"), 1).map_err(|error| format!("{error:?}"))?;
    match mode.as_str() {
        "fail" => Err("as it was asked to".to_owned()),
        "panic" => panic!("as it was asked to"),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(2500));
            Ok(())
        }
        _ => Ok(()),
    }
}
