//! Remote components, at a URL or in a registry (OCI distribution 1.1): named by digest, verified and cached, so that a
//! component that was fetched once needs no network again.
//!
//! Limit: a hundred mebibytes and [`TIME`] for each; only from registries that the gateway's file names. A server that was
//! unreachable is not tried again for [`LEFT_ALONE`].

mod get;
mod oci;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::Uri;
use toml::de::DeValue;

use crate::config::reader::{At, Section};
use crate::ids::Digest;
use crate::store::Secret;
use get::Get;

pub(crate) use oci::Image;

/// Time limit to fetch one component.
const TIME: Duration = Duration::from_secs(120);
/// After a failed connection: many tenants' components may be on that server.
const LEFT_ALONE: Duration = Duration::from_secs(8);
/// How long an unused component is kept, in case a tenant goes back to it.
const KEPT: Duration = Duration::from_hours(24 * 30);
pub(crate) const BYTES_MAX: u64 = 100 << 20;

/// The forms that a `source` may have.
pub(crate) const WANTED: &str =
    "a path, { url = \"https://…\", sha256 = \"…\" } or { oci = \"registry.example/name@sha256:…\" }";

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Relative to the folder of the file that names it.
    Path(String),
    Url(Uri, Digest),
    Image(Image),
}

/// The registries that components may be fetched from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) registries: Vec<Registry>,
    /// The folder that components are cached in.
    pub(crate) dir: PathBuf,
    /// Further CA certificates to trust, in PEM.
    pub(crate) ca: Option<Vec<u8>>,
    unreached: Arc<Mutex<HashMap<String, Instant>>>,
}

/// One `[[registry]]` of the gateway's file.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    /// Scheme, host and port.
    pub(crate) url: Uri,
    /// Name and password, if the registry requires them.
    pub(crate) login: Option<(String, Secret)>,
}

impl Origin {
    /// Reads a `source`; a path is relative to `dir`.
    pub(crate) fn read(value: &DeValue<'_>, dir: &Path) -> Option<Self> {
        if let Some(path) = value.as_str() {
            return Some(Self::Path(dir.join(path).to_str()?.to_owned()));
        }
        let table = value.as_table()?;
        let text = |key: &str| table.get(key)?.get_ref().as_str();
        match (text("url"), text("oci")) {
            (Some(url), None) if table.len() == 2 => {
                // Spin's manifests write `digest = "sha256:…"`.
                let digest = text("sha256").or_else(|| text("digest")?.strip_prefix("sha256:"))?;
                Self::at(url, digest)
            }
            (None, Some(image)) if table.len() == 1 => Some(Self::Image(Image::parse(image)?)),
            _ => None,
        }
    }

    /// A component at a URL, with its digest in hexadecimal.
    pub(crate) fn at(url: &str, digest: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let is_whole = url.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        let is_http = matches!(url.scheme_str(), Some("https" | "http"));
        (is_whole && is_http).then_some(Self::Url(url, Digest::parse(digest)?))
    }

    pub(crate) fn path(&self) -> Option<&str> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url(..) | Self::Image(_) => None,
        }
    }
}

/// Reads the `source` of a component, in either kind of file.
pub(crate) fn source(section: &Section<'_>, dir: &Path) -> Option<At<Origin>> {
    section.take("source", WANTED, |value| Origin::read(value, dir))
}

impl Settings {
    pub(crate) fn new(registries: Vec<Registry>, dir: PathBuf, ca: Option<Vec<u8>>) -> Self {
        Self { registries, dir, ca, unreached: Arc::default() }
    }

    /// The file of this component, which is fetched if it is not cached. Blocks: do not call it in an async task.
    ///
    /// # Errors
    /// A text for the operator: where the gateway looked, and what it found.
    pub(crate) fn file(&self, origin: &Origin) -> Result<(PathBuf, Digest), String> {
        let known = match origin {
            Origin::Path(_) => return Err("it is a path".to_owned()),
            Origin::Url(_, digest) => Some(*digest),
            Origin::Image(image) => self.layer(image.digest),
        };
        if let Some(path) = known.and_then(|digest| Some((self.kept(digest)?, digest))) {
            return Ok(path);
        }
        let (host, registry) = self.registry(origin)?;
        self.reach(&host, || self.fetch(origin, &registry))
    }

    /// The cached file, if its content still has this digest.
    fn kept(&self, digest: Digest) -> Option<PathBuf> {
        let path = self.dir.join(format!("{digest}.wasm"));
        (Digest::of(&std::fs::read(&path).ok()?) == digest).then_some(path)
    }

    /// The digest of the component that was found in an image.
    fn layer(&self, image: Digest) -> Option<Digest> {
        Digest::parse(std::fs::read_to_string(self.dir.join(format!("{image}.image"))).ok()?.trim())
    }

    /// The registry to ask, if the gateway's file allows one.
    fn registry(&self, origin: &Origin) -> Result<(String, Registry), String> {
        let (authority, scheme) = match origin {
            Origin::Path(_) => (String::new(), None),
            Origin::Url(url, _) => (url.authority().map(ToString::to_string).unwrap_or_default(), url.scheme_str()),
            Origin::Image(image) => (image.host.clone(), None),
        };
        let is_it = |registry: &&Registry| {
            let same = registry.url.authority().is_some_and(|of| of.as_str().eq_ignore_ascii_case(&authority));
            same && scheme.is_none_or(|scheme| registry.url.scheme_str() == Some(scheme))
        };
        let registry = self.registries.iter().find(is_it).cloned();
        let none = || {
            let scheme = scheme.unwrap_or("https");
            format!("{authority} is not among the gateway's [[registry]]: add url = \"{scheme}://{authority}\" there")
        };
        Ok((authority.clone(), registry.ok_or_else(none)?))
    }

    /// Runs `ask`, unless this host was unreachable a moment ago.
    fn reach<T>(&self, host: &str, ask: impl FnOnce() -> Result<T, get::Failed>) -> Result<T, String> {
        let lock = || self.unreached.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().get(host).is_some_and(|at| at.elapsed() < LEFT_ALONE) {
            return Err(format!("{host} could not be reached a moment ago; the gateway tries again later"));
        }
        ask().map_err(|failed| {
            if failed.is_of_the_way {
                let mut unreached = lock();
                unreached.retain(|_, at| at.elapsed() < LEFT_ALONE);
                unreached.insert(host.to_owned(), Instant::now());
            }
            failed.why
        })
    }

    fn fetch(&self, origin: &Origin, registry: &Registry) -> Result<(PathBuf, Digest), get::Failed> {
        let work = async {
            let get = Get::new(self.ca.as_deref(), registry)?;
            match origin {
                Origin::Path(_) => Err(get::Failed::for_good("it is a path".to_owned())),
                Origin::Url(url, digest) => Ok((*digest, get.verified(url, *digest, None).await?, None)),
                Origin::Image(image) => {
                    let (digest, bytes) = image.fetch(&get, &registry.url).await?;
                    Ok((digest, bytes, Some(image.digest)))
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| get::Failed::for_good(error.to_string()))?;
        let fetched = runtime.block_on(async { tokio::time::timeout(TIME, work).await });
        let late = |_elapsed| get::Failed::of_the_way(format!("it did not arrive within {} seconds", TIME.as_secs()));
        let (digest, bytes, image) = fetched.map_err(late)??;
        let path = self.dir.join(format!("{digest}.wasm"));
        let keep = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.dir)?;
            put(&path, &bytes)?;
            match image {
                Some(image) => put(&self.dir.join(format!("{image}.image")), digest.to_string().as_bytes()),
                None => Ok(()),
            }
        };
        keep().map_err(|error| {
            get::Failed::for_good(format!("it cannot be written to {}: {error}", self.dir.display()))
        })?;
        tracing::info!(target: "config", %digest, from = ?origin, bytes = bytes.len(), "a component was fetched");
        Ok((path, digest))
    }

    /// Removes components that are old and not used by any plan.
    pub(crate) fn clear_away(&self, is_used: impl Fn(&Path) -> bool) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let path = entry.path();
            let at = entry.metadata().and_then(|of| of.modified()).unwrap_or_else(|_| SystemTime::now());
            let is_old = at.elapsed().is_ok_and(|age| age > KEPT);
            if is_old && path.extension().is_some_and(|of| of == "wasm") && !is_used(&path) {
                // If this fails, the next run tries again.
                let _removed = std::fs::remove_file(path);
            }
        }
    }
}

/// Writes a file atomically.
fn put(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_path_or_has_a_digest() {
        let read = |text: &str| {
            let line = format!("source = {text}");
            let table = toml::de::DeTable::parse(&line).unwrap();
            Origin::read(table.get_ref().get("source").unwrap().get_ref(), Path::new("app"))
        };
        let hex = "ab".repeat(32);
        assert_eq!(read("\"a.wasm\""), Some(Origin::Path("app/a.wasm".to_owned())));
        let url = format!("{{ url = \"https://a.example/x.wasm\", sha256 = \"{hex}\" }}");
        assert!(matches!(read(&url), Some(Origin::Url(..))));
        assert!(matches!(read(&url.replace("sha256 = \"", "digest = \"sha256:")), Some(Origin::Url(..))));
        assert!(matches!(read(&format!("{{ oci = \"ghcr.io/a/b:1@sha256:{hex}\" }}")), Some(Origin::Image(_))));
        for bad in [
            "{ url = \"https://a.example/x.wasm\" }".to_owned(),
            "{ oci = \"ghcr.io/a/b:1\" }".to_owned(),
            url.replace("https", "file"),
            url.replace("a.example", "user:secret@a.example"),
            url.replace(&hex, "abc"),
            "7".to_owned(),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
