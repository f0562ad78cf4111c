use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::deadline::Deadline;
use crate::ids::TenantId;
use crate::sandbox::compile_queue::CompileQueue;

/// A child that is a shell script. It gets what a compiler gets.
struct Script {
    dir: tempfile::TempDir,
    place: CompilePermit,
}

impl Script {
    async fn new(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("child");
        std::fs::write(&program, format!("#!/bin/sh\n{lines}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let place = CompileQueue::new(1).take(&TenantId::parse("one").unwrap()).await;
        Self { dir, place }
    }

    async fn run_with(&self, change: impl FnOnce(&mut Orders<'_>), wasm: &[u8]) -> Result<Report, Ended> {
        let (dir, program) = (self.dir.path().to_owned(), self.dir.path().join("child"));
        let work = Work { dir, memory: 1 << 30, seconds: 1, program, ..Work::default() };
        let mut orders = Orders {
            starter: &Starter::Here,
            work: &work,
            order: Order { name: "out".into(), nice: 19, pretend: None },
            time: Duration::from_secs(1),
            starved_after: None,
            idle_max: IDLE_MAX,
        };
        change(&mut orders);
        // Another test may have forked while this file was open for writing, so that its child holds the file open
        // (execve(2), ETXTBSY).
        for _try in 0..50 {
            match run(&orders, wasm, &self.place).await {
                Err(Ended::With(CompileError::Failed(why))) if why.contains("busy") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
        panic!("the script stays busy");
    }

    async fn run(&self) -> Result<Report, Ended> {
        self.run_with(|_as_it_is| (), b"").await
    }
}

/// Longer than any test here runs: a test that gets there has waited for a child.
const NEVER: Duration = Duration::from_secs(40);

#[tokio::test]
async fn a_child_that_writes_too_much_is_killed_at_once() {
    // Both block on a pipe that nobody reads any more. Neither would end by itself.
    let more = format!("head -c {} /dev/zero; exec sleep 60", REPORT_BYTES_MAX + 1);
    for lines in ["exec cat /dev/zero", "exec cat /dev/zero >&2", &more] {
        let script = Script::new(lines).await;
        let ended = Deadline::after(NEVER).run(script.run()).await;
        assert_eq!(ended.unwrap(), Err(CompileError::TooMuchSaid.into()), "{lines}");
    }
    // One letter decides: a child within the limit is read to the end.
    for (letters, wanted) in [(REPORT_BYTES_MAX, "no whole report"), (REPORT_BYTES_MAX + 1, "report has more than")] {
        let script = Script::new(&format!("head -c {letters} /dev/zero")).await;
        let Err(Ended::With(error)) = script.run().await else { panic!("a report of zeroes") };
        assert!(error.to_string().contains(wanted), "{letters}: {error}");
    }
}

#[tokio::test]
async fn a_child_that_exits_without_reading_is_judged_by_its_exit_status() {
    let script = Script::new("echo 'no good' >&2; exit 3").await;
    let wasm = vec![0; 8 << 20];
    let ended = Deadline::after(NEVER).run(script.run_with(|_as_it_is| (), &wasm)).await.unwrap();
    assert_eq!(ended, Err(CompileError::Invalid("no good".to_owned()).into()));
}

#[tokio::test]
async fn an_idle_child_is_killed_and_its_component_is_not_blamed() {
    // With its pipes open, with them closed, and with input that it does not read.
    for lines in ["exec sleep 60", "exec >&- 2>&-; exec sleep 60", "exec <&-; exec sleep 60"] {
        let script = Script::new(lines).await;
        let idle_max = Duration::from_millis(700);
        let wasm = vec![0; 8 << 20];
        let run = script.run_with(|orders| orders.idle_max = idle_max, &wasm);
        let ended = Deadline::after(NEVER).run(run).await.unwrap();
        assert_eq!(ended, Err(CompileError::Idle(idle_max).into()), "{lines}");
    }
    assert!(!CompileError::Idle(IDLE_MAX).is_of_component());
}

#[tokio::test]
async fn a_child_is_held_to_its_processor_time_and_not_to_the_clock() {
    // Unlike a real child, it sets no limit of its own.
    let script = Script::new("while :; do :; done").await;
    let ended = Deadline::after(NEVER).run(script.run()).await.unwrap();
    assert_eq!(ended, Err(CompileError::TookTooLong(Duration::from_secs(1)).into()));
    // A child that mostly waits and computes a little from time to time is no burden.
    let little = "for n in 1 2 3 4 5 6; do sleep 0.5; head -c 3000000 /dev/zero | cksum; done >/dev/null";
    let script = Script::new(&format!("{little}; exit 3")).await;
    let idle = |orders: &mut Orders<'_>| orders.time = Duration::from_millis(900);
    assert_eq!(script.run_with(idle, b"").await, Err(CompileError::Invalid(String::new()).into()));
}

#[tokio::test]
async fn a_starved_child_is_worth_another_attempt() {
    let script = Script::new("exec sleep 60").await;
    let starved = |orders: &mut Orders<'_>| orders.starved_after = Some(Duration::from_millis(500));
    assert_eq!(script.run_with(starved, b"").await, Err(Ended::Starved));
    let busy = Script::new("while :; do :; done").await;
    let ended = busy.run_with(starved, b"").await;
    assert!(matches!(ended, Err(Ended::With(CompileError::TookTooLong(_)) | Ended::Starved)), "{ended:?}");
}

#[tokio::test]
async fn a_signal_that_a_compiler_causes_is_the_components_fault() {
    for (signal, is_own) in
        [("ABRT", true), ("SEGV", true), ("XCPU", true), ("KILL", false), ("TERM", false), ("BUS", false)]
    {
        let script = Script::new(&format!("ulimit -c 0; kill -{signal} $$")).await;
        let Err(Ended::With(error)) = script.run().await else { panic!("{signal}") };
        assert_eq!(error.is_of_component(), is_own, "{signal}: {error}");
    }
    let script = Script::new("printf '{\"imports\":[\"wa'").await;
    let Err(Ended::With(error)) = script.run().await else { panic!("half a report") };
    assert!(!error.is_of_component(), "{error}");
}
