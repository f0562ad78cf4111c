//! `tollgate backup` and `tollgate restore`: the embedded store as one file, and back.
//!
//! Invariant: the file at `--to` is complete, and its checksum was compared with what is on the disk; otherwise the file
//! does not exist.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::fs::Mode;

use super::{Common, running, runtime};
use crate::admin::{Client, Running, Unauthorized, is_nobody};
use crate::config::Boot;
use crate::store::{self, Existing, Folder, Kind, Summary};

/// How long the gateway may be silent; it gives up after half of that.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(5);

const ON_REDIS: &str = "tenants' data is on Redis, not in the embedded store: back it up and restore it there (BGSAVE copies it into a \
                        file, replication keeps a second server), or use `tollgate kv export` and `kv import` for each tenant";

#[derive(Args, Debug)]
pub(super) struct Backup {
    /// The backup; the file appears once it is whole, and replaces one of that name
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    /// The backup, as `tollgate backup` wrote it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Replace the store that is there, whose data is lost
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    common: Common,
}

/// The configuration, and the folder of the embedded store. Files that are created from here on are readable by this user
/// alone.
fn embedded(common: &Common) -> anyhow::Result<Result<(Boot, PathBuf), ExitCode>> {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let boot = match running(common) {
        Ok(boot) => boot,
        Err(code) => return Ok(Err(code)),
    };
    let Kind::Embedded(dir) = &boot.storage.kind else { bail!("{ON_REDIS}") };
    let dir = dir.clone();
    Ok(Ok((boot, dir)))
}

pub(super) fn backup(asked: &Backup) -> anyhow::Result<ExitCode> {
    let (boot, dir) = match embedded(&asked.common)? {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    let began = Instant::now();
    let mut whole = Whole::begin(&asked.to)?;
    if !of_running(&boot, &mut whole)? {
        of_folder(&boot, &dir, &mut whole)?;
    }
    let summary = whole.end()?;
    say("backed up", &summary, began, &format!(" to {}", asked.to.display()))
}

/// Asks the running gateway. Returns whether there is one.
fn of_running(boot: &Boot, whole: &mut Whole) -> anyhow::Result<bool> {
    let is_told = boot.operators.is_address_given;
    if !is_told && Running::read(&boot.state).is_none() {
        return Ok(false);
    }
    let mut client = Client::new(boot, PATIENCE)?;
    runtime()?.block_on(async {
        let mut pieces = match client.pieces("/v1/backup").await {
            Ok(pieces) => pieces,
            // The gateway was killed and left its file behind.
            Err(error) if !is_told && is_nobody(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        while let Some(piece) = pieces.next().await? {
            whole.add(&piece)?;
        }
        Ok(true)
    })
}

fn of_folder(boot: &Boot, dir: &Path, whole: &mut Whole) -> anyhow::Result<()> {
    let Some(mut folder) = Folder::open(dir)? else {
        bail!(
            "there is no embedded store in {}, and no gateway runs with the state folder {}",
            dir.display(),
            boot.state.display()
        )
    };
    while let Some(piece) = folder.next()? {
        whole.add(&piece)?;
    }
    Ok(())
}

pub(super) fn restore(asked: &Restore) -> anyhow::Result<ExitCode> {
    let (boot, dir) = match embedded(&asked.common)? {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    let began = Instant::now();
    refuse_if_served(boot)?;
    let existing = if asked.replace { Existing::Replaced } else { Existing::Kept };
    let summary = store::restore(&asked.from, &dir, existing)?;
    say("restored", &summary, began, &format!(" into {}", dir.display()))
}

/// Also checks the store's own lock, because a gateway on Redis does not hold it.
fn refuse_if_served(mut boot: Boot) -> anyhow::Result<()> {
    boot.operators.is_address_given = false;
    let Some(running) = Running::read(&boot.state) else { return Ok(()) };
    let mut client = Client::looking(&boot, LOOK)?;
    match runtime()?.block_on(client.get("/v1/status")) {
        Err(error) if is_nobody(&error) => Ok(()),
        Err(error) if !error.is::<Unauthorized>() => Err(error.context(format!(
            "it cannot be seen whether a gateway (process {}) serves {}: if none runs, delete running.json there",
            running.pid,
            boot.state.display()
        ))),
        Ok(_) | Err(_) => bail!(
            "a gateway (process {}) serves {}: stop it (`tollgate drain`), and restore then",
            running.pid,
            boot.state.display()
        ),
    }
}

fn say(verb: &str, summary: &Summary, began: Instant, place: &str) -> anyhow::Result<ExitCode> {
    let taken = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(summary.taken_ms));
    let (keys, tenants, megabytes) = (summary.keys, summary.tenants, summary.bytes as f64 / 1e6);
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        std::io::stdout().lock(),
        "{verb} {keys} keys of {tenants} tenants ({megabytes:.1} MB) as of {taken} in {seconds:.1} s{place}"
    )?;
    Ok(ExitCode::SUCCESS)
}

/// A file that gets its name when it is complete.
struct Whole {
    to: PathBuf,
    part: PathBuf,
    file: File,
    is_named: bool,
}

impl Whole {
    fn begin(to: &Path) -> anyhow::Result<Self> {
        let part = to.with_added_extension("part");
        let cannot = || format!("cannot write {}", part.display());
        let mut open = File::options();
        open.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = open.open(&part).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("another backup is being written to {}", part.display()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        // Whoever else owns the file, or has it under another name, could read the backup.
        let found = file.metadata().with_context(cannot)?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.nlink() != 1 {
            bail!(
                "{} belongs to another user, or has another name: delete it, and back up into a folder that only you can write to",
                part.display()
            );
        }
        let whole = Self { to: to.to_owned(), part, file, is_named: false };
        // An interrupted backup may have left it.
        let own = std::fs::Permissions::from_mode(0o600);
        let made = whole.file.set_len(0).and_then(|()| whole.file.set_permissions(own));
        made.with_context(|| format!("cannot write {}", whole.part.display()))?;
        Ok(whole)
    }

    fn add(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(piece).with_context(|| format!("cannot write {}", self.part.display()))
    }

    /// Gives the file its name, if what is on the disk is a complete backup.
    fn end(mut self) -> anyhow::Result<Summary> {
        let cannot = |path: &Path| format!("cannot write {}", path.display());
        self.file.sync_all().with_context(|| cannot(&self.part))?;
        let (_, summary) = store::verified(&self.part).context("the backup broke off")?;
        std::fs::rename(&self.part, &self.to).with_context(|| cannot(&self.to))?;
        self.is_named = true;
        let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| cannot(folder))?;
        Ok(summary)
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.is_named {
            // An incomplete backup is of no use.
            let _gone = std::fs::remove_file(&self.part);
        }
    }
}
