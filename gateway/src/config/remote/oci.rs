//! Registry images (OCI distribution 1.1 §3, image 1.1 §5): a manifest by its digest, and the component among its layers.

use bytes::Bytes;
use http::Uri;
use serde::Deserialize;

use super::get::{Failed, Get};
use crate::ids::Digest;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media types of layers with a component, as different tools push them (the CNCF's guidance first).
const LAYERS: [&str; 2] = ["application/wasm", "application/vnd.wasm.content.layer.v1+wasm"];

/// An image, by the digest of its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    /// With its port, if it has one.
    pub(super) host: String,
    name: String,
    pub(super) digest: Digest,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

impl Image {
    /// `registry.example:5000/name[:tag]@sha256:…`; the tag has no effect beside the digest.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (image, digest) = text.split_once("@sha256:")?;
        let (host, name) = image.split_once('/')?;
        let name = name.rsplit_once(':').map_or(name, |(name, _tag)| name);
        let is_word = |word: &str| {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
            word.starts_with(|first: char| first.is_ascii_alphanumeric()) && word.bytes().all(is_name)
        };
        let is_good = !host.is_empty() && !host.contains('@') && name.len() <= 255 && name.split('/').all(is_word);
        Some(Self { host: host.to_owned(), name: name.to_owned(), digest: Digest::parse(digest)? }).filter(|_| is_good)
    }

    /// The component and its own digest.
    pub(super) async fn fetch(&self, get: &Get<'_>, registry: &Uri) -> Result<(Digest, Bytes), Failed> {
        let base = registry.to_string();
        let at = |what: &str| {
            let url = format!("{}/v2/{}/{what}", base.trim_end_matches('/'), self.name).parse::<Uri>();
            url.map_err(|error| Failed::for_good(error.to_string()))
        };
        let url = at(&format!("manifests/sha256:{}", self.digest))?;
        let manifest = get.verified(&url, self.digest, Some(MANIFEST)).await?;
        let bad = |what: String| Failed::for_good(format!("{url}: {what}"));
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|error| bad(error.to_string()))?;
        let is_wasm = |layer: &&Layer| LAYERS.contains(&layer.media_type.as_str());
        let mut found = manifest.layers.iter().filter(is_wasm);
        let (Some(layer), None) = (found.next(), found.next()) else {
            let kinds: Vec<_> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            return Err(bad(format!("wanted one layer of {}; found [{}]", LAYERS[0], kinds.join(", "))));
        };
        let digest = layer.digest.strip_prefix("sha256:").and_then(Digest::parse);
        let digest = digest.ok_or_else(|| bad(format!("its layer has the digest {:?}", layer.digest)))?;
        let bytes = get.verified(&at(&format!("blobs/sha256:{digest}"))?, digest, None).await?;
        Ok((digest, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_must_have_a_digest() {
        let hex = "0f".repeat(32);
        let parse = |image: &str| Image::parse(&format!("{image}@sha256:{hex}"));
        let image = parse("localhost:5000/team/site:1.2").unwrap();
        assert_eq!((image.host.as_str(), image.name.as_str()), ("localhost:5000", "team/site"));
        assert_eq!(parse("ghcr.io/a/b").unwrap().name, "a/b");
        for bad in ["ghcr.io", "ghcr.io/", "ghcr.io/a//b", "ghcr.io/../b", "ghcr.io/A", "me@ghcr.io/a", "/a"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
        assert!(Image::parse("ghcr.io/a/b:latest").is_none());
    }
}
